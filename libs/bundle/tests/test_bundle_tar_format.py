"""The bytes of a layer: constants, long names, alignment, huge files."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from slipway_bundle.layers import LayerFile
from slipway_bundle.store import Store
from slipway_bundle.tar import (
    ALIGN_BYTES,
    ALIGN_FROM_BYTES,
    BLOCK_BYTES,
    OWNER,
    TRAILER,
    Member,
    TarLayout,
    lay_out,
    normal_mode,
)


def headers_only(layout: TarLayout) -> bytes:
    """The layer without the data: `tarfile` seeks over what is not there only in the last member."""
    return b"".join(segment.header for segment in layout.segments) + TRAILER


def test_equal_members_have_equal_bytes_in_any_order() -> None:
    members = [Member(path=path, size=0) for path in ("b/c", "a", "a-b", "a.d/x", "é")]

    assert lay_out(members) == lay_out(members[::-1])


def test_names_are_sorted_by_bytes_and_parents_come_once_and_first() -> None:
    layout = lay_out([Member(path=path, size=0) for path in ("a/z", "a-b", "a/b/c", "Z", "é", "zz")])

    assert [segment.path for segment in layout.segments] == ["Z", "a", "a-b", "a/b", "a/b/c", "a/z", "zz", "é"]
    assert [segment.path for segment in layout.segments if segment.is_directory] == ["a", "a/b"]


def test_a_header_holds_nothing_of_the_machine() -> None:
    layout = lay_out([Member(path="d/f", size=0), Member(path="d/run", size=0, mode=0o755)])

    with tarfile.open(fileobj=io.BytesIO(headers_only(layout))) as tar:
        members = tar.getmembers()

    assert [(each.name, each.mode, each.isdir()) for each in members] == [
        ("d", 0o755, True),
        ("d/f", 0o644, False),
        ("d/run", 0o755, False),
    ]
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, OWNER, OWNER, "", "")}
    assert all(each.pax_headers == {} for each in members)


def test_the_layout_is_pinned_byte_for_byte() -> None:
    """A change here changes every digest: raise `TAR_REVISION` and write it into the format's page."""
    layout = lay_out([Member(path="models/m", size=3)])

    header = layout.segments[1].header

    assert header == (
        b"models/m".ljust(100, b"\0")
        + b"0000644\x000177774\x000177774\x0000000000003\x0000000000000\x00"
        + b"010742\x00 0"
        + bytes(100)
        + b"ustar\x0000"
        + bytes(64)
        + b"0000000\x000000000\x00"
        + bytes(167)
    )
    assert layout.segments[1].offset == 2 * BLOCK_BYTES
    assert layout.size == 3 * BLOCK_BYTES + 2 * BLOCK_BYTES


@pytest.mark.parametrize("size", [0, 1, ALIGN_FROM_BYTES - 1])
def test_small_files_have_no_alignment_record(size: int) -> None:
    assert len(lay_out([Member(path="m", size=size)]).segments[0].header) == BLOCK_BYTES


@pytest.mark.parametrize("before", range(9))
@pytest.mark.parametrize("name", ["m", "m" * 101, "ü" * 100, "d/" * 600 + "m"])
def test_the_data_of_large_files_starts_at_a_page(before: int, name: str) -> None:
    fillers = [Member(path=f"{index:03}", size=1) for index in range(before)]

    layout = lay_out([*fillers, Member(path=name, size=ALIGN_FROM_BYTES)])

    assert layout.segments[-1].offset % ALIGN_BYTES == 0
    with tarfile.open(fileobj=io.BytesIO(layout.segments[-1].header)) as tar:
        member = tar.next()
    assert member is not None
    assert member.name == name
    assert set(member.pax_headers) <= {"comment", "path"}
    assert member.pax_headers["comment"].strip(" ") == ""
    assert len(layout.segments[-1].header) <= ALIGN_BYTES + 4 * BLOCK_BYTES


def test_a_file_of_more_than_8_gib_says_its_size_in_a_record() -> None:
    size = 8**11 + 5

    layout = lay_out([Member(path="m", size=size)])

    with tarfile.open(fileobj=io.BytesIO(layout.segments[0].header)) as tar:
        member = tar.next()
    assert member is not None
    assert member.size == size
    assert layout.size == layout.segments[0].offset + size + (-size % BLOCK_BYTES) + 2 * BLOCK_BYTES


@pytest.mark.parametrize(("mode", "normal"), [(0o600, 0o644), (0o664, 0o644), (0o700, 0o755), (0o4755, 0o755)])
def test_only_the_owners_right_to_execute_is_content(mode: int, normal: int) -> None:
    assert normal_mode(mode) == normal


def test_another_mode_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="bug in slipway"):
        lay_out([Member(path="m", size=0, mode=0o600)])


def test_gnu_tar_lists_and_unpacks_what_we_pack(tmp_path: Path) -> None:
    content = {
        "code/run.sh": b"#!/bin/sh\n",
        "models/churn/weights.bin": os.urandom(ALIGN_FROM_BYTES + 7),
        "models/" + "long-" * 40 + "/größe.json": b"{}",
    }
    store = Store.open(tmp_path / "store")
    layer = store.put_layer(
        [LayerFile(path, data, 0o755 if path.endswith(".sh") else 0o644) for path, data in content.items()]
    )
    blob = store.blob(layer.descriptor.digest)

    listed = subprocess.run(
        ["tar", "--numeric-owner", "--quoting-style=literal", "-tvf", blob], capture_output=True, text=True, check=True
    )
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", blob, "-C", tmp_path / "out", "--no-same-owner"], check=True)

    assert listed.stderr == ""
    assert listed.stdout.splitlines()[1].split() == [
        "-rwxr-xr-x", "65532/65532", "10", "1970-01-01", "00:00", "code/run.sh",
    ]  # fmt: skip
    assert {path: (tmp_path / "out" / path).read_bytes() for path in content} == content
