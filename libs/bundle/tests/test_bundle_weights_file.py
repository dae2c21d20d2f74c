"""Byte ranges of files as bytes, as a mapping, and as something that a library opens by its path."""

import os
from pathlib import Path

import pytest

from slipway_bundle.errors import HostError
from slipway_bundle.weights import WeightsFile, WeightsFormatError

WHOLE = bytes(range(256)) * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "layer.tar"
    found.write_bytes(WHOLE)
    return found


def descriptors() -> list[str]:
    """This process's open files, where proc(5) says them (the one that lists them included, each time)."""
    folder = Path("/proc/self/fd")
    return sorted(found.name for found in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize(("offset", "size"), [(0, len(WHOLE)), (4096, 1000), (0, 10), (5, len(WHOLE) - 5)])
def test_a_range_is_the_same_bytes_in_every_form(path: Path, offset: int, size: int) -> None:
    file = WeightsFile(path, offset, size)

    with file.opened() as source:
        opened = source if isinstance(source, bytes) else Path(source).read_bytes()

    assert file.read() == bytes(file.view()) == opened == WHOLE[offset : offset + size]
    assert file.view().readonly


def test_a_whole_file_is_opened_where_it_is_and_a_range_leaves_nothing_behind(path: Path) -> None:
    before = descriptors()

    with WeightsFile.whole(path).opened() as source:
        assert source == str(path)
    with WeightsFile(path, 1, 10).opened() as source:
        assert source != str(path)

    assert descriptors() == before
    assert sorted(path.parent.iterdir()) == [path]


def test_where_memory_has_no_path_the_bytes_are_handed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)

    with WeightsFile(path, 7, 100).opened() as source:
        assert source == WHOLE[7:107]


def test_a_file_shorter_than_its_range_is_refused(path: Path) -> None:
    file = WeightsFile(path, 100, len(WHOLE))

    with pytest.raises(WeightsFormatError, match="is truncated"):
        file.view()
    with pytest.raises(WeightsFormatError, match="is truncated"):
        file.read()


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    with pytest.raises(WeightsFormatError, match="is truncated"):
        WeightsFile.whole(tmp_path / "empty").view()
    with pytest.raises(HostError, match="cannot be read"):
        WeightsFile(tmp_path / "missing", 0, 10).view()
