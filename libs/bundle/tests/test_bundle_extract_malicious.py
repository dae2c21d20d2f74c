"""Layers that somebody made to do harm: refused whole, with the member's name. The tars are made by hand."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway_bundle.extract import materialise, scan_layer
from slipway_bundle.oci import LAYER_TYPE
from slipway_bundle.store import Store
from slipway_bundle.store_errors import LayerUnsafeError, LayerUnsupportedError
from slipway_bundle.tarreader import LayerReader

Build = Callable[[tarfile.TarFile], None]


def member(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    data: bytes = b"",
    link: str = "",
    mode: int = 0o644,
    pax: dict[str, str] | None = None,
) -> Build:
    def build(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname, info.mode, info.pax_headers = kind, len(data), link, mode, pax or {}
        tar.addfile(info, io.BytesIO(data))

    return build


def make(*builds: Build, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=form) as tar:
        for build in builds:
            build(tar)
    return buffer.getvalue()


def patched(data: bytes, position: int, value: bytes) -> bytes:
    """`data` with other bytes in its first header, and the checksum set right."""
    header = bytearray(data[:512])
    header[position : position + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


PLAIN = make(member("a", data=b"12345"))

CASES: dict[str, tuple[bytes, str]] = {
    "parent": (make(member("../evil")), "'../evil': the name has a component '..'"),
    "parent inside": (make(member("a/../../evil")), "component '..'"),
    "dot": (make(member("./a")), "component '.'"),
    "absolute": (make(member("/etc/passwd")), "'/etc/passwd': the name is absolute"),
    "empty": (patched(PLAIN, 0, b"\0"), "the name is empty"),
    "backslash": (make(member("..\\evil")), "a backslash"),
    "control": (make(member("a\x1b[2Jb")), "a NUL or another control character"),
    "NUL in a record": (make(member("ok", pax={"path": "ok\0/../evil"})), "a NUL"),
    "symlink": (make(member("a", tarfile.SYMTYPE, link="/etc")), "'a': it is a symbolic link"),
    "hard link": (make(member("b"), member("a", tarfile.LNKTYPE, link="b")), "'a': it is a hard link"),
    "character device": (make(member("null", tarfile.CHRTYPE)), "it is a character device"),
    "block device": (make(member("sda", tarfile.BLKTYPE)), "it is a block device"),
    "FIFO": (make(member("pipe", tarfile.FIFOTYPE)), "it is a FIFO"),
    "contiguous": (make(member("c", tarfile.CONTTYPE)), "it is a contiguous file"),
    "unknown kind": (patched(PLAIN, 156, b"Z"), "of the unknown kind b'Z'"),
    "sparse": (patched(PLAIN, 156, b"S"), "it is a sparse file"),
    "sparse in records": (
        make(member("s", pax={"GNU.sparse.major": "1"})),
        "the record 'GNU.sparse.major' is not known",
    ),
    "attributes": (make(member("s", pax={"SCHILY.xattr.security.capability": "x"})), "is not known"),
    "link in records": (make(member("s", pax={"linkpath": "/etc/passwd"})), "'linkpath' is not known"),
    "setuid": (make(member("sudo", mode=0o4755)), "'sudo': it is setuid, setgid or sticky: mode 4755"),
    "setgid": (make(member("sg", mode=0o2755)), "setgid"),
    "sticky": (make(member("d", tarfile.DIRTYPE, mode=0o1755)), "sticky"),
    "twice": (make(member("a"), member("b"), member("a")), "'a': the name occurs twice"),
    "folder twice": (make(member("d", tarfile.DIRTYPE), member("d", tarfile.DIRTYPE)), "'d': the name occurs twice"),
    "file then folder": (make(member("a"), member("a", tarfile.DIRTYPE)), "already a file"),
    "file then child": (make(member("a"), member("a/b")), "its parent 'a' is a file"),
    "child then file": (make(member("a/b"), member("a")), "already a folder"),
    "case": (make(member("README"), member("readme")), "'readme': the name differs from 'README' only in case"),
    "Unicode form": (make(member("caf\u00e9"), member("cafe\u0301")), "only in case or Unicode form"),
    "case of a folder": (make(member("Code/a"), member("code/b")), "differs from 'Code' only in case"),
    "whiteout": (make(member("d/.wh.a")), "means deletion"),
    "not UTF-8": (patched(PLAIN, 0, b"caf\xe9"), r"'caf\\xe9': the name is not UTF-8"),
    "long name": (make(member("d/" * 2100 + "a")), "4201 bytes, expected at most 4096"),
    "long component": (make(member("a" * 256)), "more than 255 bytes"),
    "long records": (make(member("a", pax={"comment": "x" * 70_000})), "PAX records have more than 65536 bytes"),
    "GNU long name": (make(member("n" * 300), form=tarfile.GNU_FORMAT), "its header is not USTAR"),
    "global header": (patched(PLAIN, 156, b"g"), "it is a global PAX header"),
    "records twice": (
        make(member("a", pax={"comment": "x"}))[:1024] + make(member("a", pax={"comment": "x"})),
        "of the unknown kind b'x'",
    ),
    "size beyond the end": (
        patched(PLAIN, 124, b"77777777777\0"),
        "'a': it claims 8589934591 bytes, and the layer has",
    ),
    "size that eats the end": (patched(PLAIN, 124, b"00000023000\0"), "too early"),
    "size in a record": (make(member("a", pax={"size": "99999999"})), "it claims 99999999 bytes"),
    "size no number": (make(member("a", pax={"size": "-1"})), "its size is '-1'"),
    "size in base 256": (patched(PLAIN, 124, b"\x80" + bytes(10) + b"\x05"), "not an octal number"),
    "folder with data": (patched(patched(PLAIN, 156, b"5"), 0, b"a"), "a folder with 5 bytes of data"),
    "link name of a file": (patched(PLAIN, 157, b"/etc/passwd"), "the target of a link"),
    "checksum": (PLAIN[:148] + b"000000\0 " + PLAIN[156:], "the checksum of its header is wrong"),
    "data after the end": (PLAIN + b"hidden".ljust(512, b"\0"), "its end is followed by data"),
    "one zero block": (PLAIN[:1024] + bytes(512) + PLAIN[:512] + bytes(1024), "one zero block is followed by data"),
    "no end": (PLAIN[:1024], "it ends 512 bytes too early"),
    "padding with data": (PLAIN[:600] + b"hidden" + PLAIN[606:], "the padding after its data is not zero"),
    "no tar": (b"#!/bin/sh\n" * 100, "its header is not USTAR"),
    "nothing": (b"", "it ends 512 bytes too early"),
    "record without length": (
        make(member("a", pax={"comment": "x"}))[:512]
        + b"x".ljust(512, b"\0")
        + make(member("a", pax={"comment": "x"}))[1024:],
        "a record has no length",
    ),
    "record that runs on": (
        make(member("a", pax={"comment": "x"}))[:512] + b"99 comment=x\n".ljust(512, b"\0") + PLAIN,
        "a record claims 99 bytes, and 13 are left",
    ),
    "record without value": (
        make(member("a", pax={"comment": "x"}))[:512] + b"13 comment-xx".ljust(512, b"\0") + PLAIN,
        "not KEY=VALUE and a line feed",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_harmful_layer_is_refused_with_its_member_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    data, reason = CASES[case]
    store = Store.open(tmp_path / "store")
    layer = store.put_bytes(data, LAYER_TYPE)

    for read in (materialise, scan_layer):
        with pytest.raises(LayerUnsafeError) as caught:
            read(store, layer)
        assert reason in caught.value.message
        assert layer.digest in caught.value.message
        assert caught.value.code == "layer_unsafe"
        assert caught.value.exit_status == 1

    assert list(store.layout.trees.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_plain_layer_of_another_packer_is_read(tmp_path: Path) -> None:
    """The strictness is about harm: owners, times and missing parents of other packers are fine."""
    store = Store.open(tmp_path / "store")
    layer = store.put_bytes(
        make(member("d/e/f", data=b"x", pax={"mtime": "1.5", "uid": "0", "comment": "hi"}), member("g", mode=0o600)),
        LAYER_TYPE,
    )

    tree = materialise(store, layer)

    assert (tree / "d/e/f").read_bytes() == b"x"
    assert (tree / "g").stat().st_mode & 0o7777 == 0o444


def test_a_million_members_are_stopped_early(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    layer = store.put_bytes(make(*(member(f"{index}") for index in range(12))), LAYER_TYPE)

    with (
        store.blob(layer.digest).open("rb") as file,
        pytest.raises(LayerUnsafeError, match="more than 10 members"),
    ):
        list(LayerReader(file, layer, max_entries=10).members())


@pytest.mark.parametrize(
    ("data", "media_type", "found"),
    [
        (b"\x1f\x8b\x08".ljust(1024, b"\0"), LAYER_TYPE, "gzip"),
        (b"\x28\xb5\x2f\xfd".ljust(1024, b"\0"), LAYER_TYPE, "zstd"),
        (PLAIN, LAYER_TYPE + "+gzip", "gzip"),
        (PLAIN, LAYER_TYPE + "+zstd", "zstd"),
        (PLAIN, "application/octet-stream", "octet-stream"),
    ],
)
def test_a_compressed_layer_is_called_unsupported_and_not_damaged(
    tmp_path: Path, data: bytes, media_type: str, found: str
) -> None:
    store = Store.open(tmp_path / "store")
    layer = store.put_bytes(data, media_type)

    with pytest.raises(LayerUnsupportedError, match=f"got .*{found}, expected an uncompressed tar") as caught:
        materialise(store, layer)

    assert caught.value.code == "layer_unsupported"
    assert "--preserve-digests" in str(caught.value.hint)
