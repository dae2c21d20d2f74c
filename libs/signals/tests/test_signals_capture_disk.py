"""The disk under capture: who may read it, and what happens when it is full, refuses, or is not what it should be."""

import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from capture_fakes import Capturing, Customer

from slipway_signals.capture.errors import CaptureFolderError


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_only_the_owner_can_read_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        capturing = Capturing(tmp_path / "capture")
        capturing.log.start()
        capturing.offer("r1")
        capturing.close().rows()
    finally:
        os.umask(before)

    found = [tmp_path / "capture.keys", tmp_path / "capture", *(tmp_path / "capture").rglob("*")]
    wrong = [path for path in found if stat.S_IMODE(path.stat().st_mode) != (0o700 if path.is_dir() else 0o600)]
    assert wrong == []
    assert any(path.suffix == ".parquet" for path in found)


def test_a_folder_or_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    Capturing(tmp_path / "closed").close()
    (tmp_path / "closed.keys").chmod(0o644)

    for name, words in (("open", "mode 0755, expected 0700"), ("closed", "mode 0644, expected 0600")):
        with pytest.raises(CaptureFolderError) as raised:
            Capturing(tmp_path / name)
        assert words in raised.value.message


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    Capturing(tmp_path / "capture").close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "capture" / "open").rmdir()
    (tmp_path / "capture" / "open").symlink_to(elsewhere)

    with pytest.raises(CaptureFolderError, match="link or a special file"):
        Capturing(tmp_path / "capture")
    assert list(elsewhere.iterdir()) == []


def test_a_disk_that_refuses_costs_records_and_heals(tmp_path: Path) -> None:
    """A segment cannot be opened while its folder is away; after the pause that it asks for, it can again."""
    capturing = Capturing(tmp_path / "capture")
    away = tmp_path / "away"
    (tmp_path / "capture" / "open").rename(away)
    capturing.offer("lost")
    writer, ring = capturing.log._writer, capturing.log._ring

    writer.turn(ring, 100.0)
    away.rename(tmp_path / "capture" / "open")
    capturing.offer("in the pause")
    writer.turn(ring, 104.0)
    capturing.offer("kept")
    writer.turn(ring, 106.0)

    assert capturing.counts() == {"written": 1, "failed": 2}
    assert [row["request_id"] for row in capturing.close().rows()] == ["kept"]


def test_what_a_full_disk_took_half_is_cut_off_again(tmp_path: Path) -> None:
    """The disk takes 100 bytes of the first chunk, which says what the records after it look like."""
    capturing = Capturing(tmp_path / "capture")
    writer, ring = capturing.log._writer, capturing.log._ring
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    capturing.offer("lost")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        writer.turn(ring, 0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    capturing.offer("kept")
    writer.turn(ring, 10.0)

    assert capturing.counts() == {"written": 1, "failed": 1}
    assert [row["request_id"] for row in capturing.close().rows()] == ["kept"]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_vanishes_costs_records_and_raises_nothing(tmp_path: Path, is_replaced: bool) -> None:
    capturing = Capturing(tmp_path / "capture")
    capturing.offer("r1")
    capturing.log._writer.turn(capturing.log._ring, 0.0)
    shutil.rmtree(tmp_path / "capture")
    if is_replaced:
        (tmp_path / "capture").write_bytes(b"a file in its place")

    for number in range(5):
        capturing.offer(f"late {number}")
        capturing.log._writer.turn(capturing.log._ring, 100.0 + 10 * number)

    counts = capturing.counts()
    assert counts["written"] + counts["failed"] == 6
    assert counts["failed"] >= 4
    capturing.close()


@pytest.mark.needs("unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need the administrator")
def test_a_full_disk_costs_records_and_never_a_request(tmp_path: Path) -> None:
    """In a mount namespace of its own: 1 MB, filled to the last byte by captured rows, then emptied again."""
    place = tmp_path / "place"
    place.mkdir()
    script = f"mount -t tmpfs -o size=1m,mode=700 x {place} && exec {sys.executable} {__file__} {place}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], check=False, capture_output=True, text=True, env=environment
    )

    assert done.returncode == 0, done.stderr
    assert "healed" in done.stdout


def fill(place: Path) -> None:
    """What the test above does inside."""
    capturing = Capturing(place / "capture")
    writer, ring = capturing.log._writer, capturing.log._ring
    slowest = 0.0
    for number in range(3_000):
        started = time.perf_counter()
        capturing.offer(f"r{number}", Customer(note="n" * 500))
        slowest = max(slowest, time.perf_counter() - started)
        writer.turn(ring, float(number))
    counts = capturing.counts()
    assert counts["written"] > 500
    assert counts["failed"] > 500
    assert counts["written"] + counts["failed"] == 3_000
    try:
        (place / "probe").write_bytes(b"x" * 8_192)
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017  the disk is full, as it should be
    (place / "probe").unlink(missing_ok=True)
    outside = place.parent / "moved"
    writer._close_segment(4_000.0)
    shutil.copytree(place / "capture", outside / "capture")
    for path in (place / "capture" / "closed").iterdir():
        path.unlink()
    capturing.offer("after")
    writer.turn(ring, 5_000.0)
    assert capturing.counts()["written"] == counts["written"] + 1
    shutil.copy(place / "capture.keys", outside)
    rows = Capturing(outside / "capture").close().rows()
    assert len(rows) == counts["written"]
    sys.stdout.write(f"healed; {counts}, slowest offer {slowest * 1e6:.0f} us\n")


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
