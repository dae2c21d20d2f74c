import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slot_writers import HITS, SECONDS, read_once, values

from slipway_signals.slotfile import HEADER_BYTES, WORD_PUBLISHED, make_slot_fd
from slipway_signals.slots import Slots
from slipway_signals.snapshots import SlotReader


class Slotted:
    """A slot file on disk with two series, that a test can damage."""

    def __init__(self, path: Path) -> None:
        self.fd = make_slot_fd(path, cells=64, key_bytes=1024)
        self.slots = Slots.attach(self.fd)
        self.slots.counter(HITS, "a").inc(3.0)
        self.first_frames = self.slots._keys_used
        self.slots.counter(HITS, "b").inc(4.0)

    def damage(self, at: int, data: bytes) -> None:
        os.pwrite(self.fd, data, at)


@pytest.fixture
def slotted(tmp_path: Path) -> Iterator[Slotted]:
    slotted = Slotted(tmp_path / "slot")
    yield slotted
    os.close(slotted.fd)


def test_a_damaged_record_hides_itself_and_what_follows_but_not_what_was_before(slotted: Slotted) -> None:
    slotted.damage(HEADER_BYTES + slotted.first_frames + 20, b"\xff")

    snapshot = read_once(slotted.fd)

    assert values(snapshot) == {("hits_total", "a"): [3.0]}
    assert snapshot.problem == f"record at byte {slotted.first_frames} fails its checksum"


def test_a_record_of_a_newer_version_is_reported(slotted: Slotted) -> None:
    slotted.damage(HEADER_BYTES + slotted.first_frames + 8, b"\x09")

    assert read_once(slotted.fd).problem == (
        f"record at byte {slotted.first_frames} has version 9, this reader knows 1"
    )


def test_a_file_cut_off_is_reported_and_keeps_its_last_good_values(slotted: Slotted) -> None:
    reader = SlotReader(slotted.fd)
    good = reader.read()

    os.ftruncate(slotted.fd, 1000)
    cut = reader.read()
    os.ftruncate(slotted.fd, 10)
    shorter = reader.read()
    reader.close()

    assert good.problem is None
    assert cut.readings == shorter.readings == good.readings
    assert "cut off: 1000 bytes" in str(cut.problem)
    assert "cut off: 10 bytes" in str(shorter.problem)


def test_a_file_that_was_never_whole_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "slot"
    path.write_bytes(b"SLIP")

    with path.open("rb") as file:
        snapshot = read_once(file.fileno())

    assert snapshot.readings == ()
    assert "cut off" in str(snapshot.problem)


def test_records_that_vanish_are_reported(slotted: Slotted) -> None:
    reader = SlotReader(slotted.fd)
    good = reader.read()

    slotted.damage(8 * WORD_PUBLISHED, bytes(8))
    lost = reader.read()
    reader.close()

    assert lost.readings == good.readings
    assert "lost records" in str(lost.problem)


def test_a_reader_sees_series_that_came_later(slotted: Slotted) -> None:
    reader = SlotReader(slotted.fd)
    before = reader.read()

    slotted.slots.histogram(SECONDS).observe(0.5)
    slotted.slots.counter(HITS, "a").inc()
    after = reader.read()
    reader.close()

    assert len(before.readings) == 2
    assert values(after) == {
        ("hits_total", "a"): [4.0],
        ("hits_total", "b"): [4.0],
        ("wait_seconds",): [0.0, 1.0, 0.0, 0.5],
    }


def test_the_last_snapshot_survives_close(slotted: Slotted) -> None:
    reader = SlotReader(slotted.fd)
    snapshot = reader.read()

    reader.close()

    assert values(snapshot)["hits_total", "b"] == [4.0]


@given(st.integers(0, HEADER_BYTES + 400), st.binary(min_size=1, max_size=16))
def test_no_damage_makes_a_read_fail(at: int, data: bytes) -> None:
    """Whatever bytes are overwritten, the reader answers, and what it shows was once written there."""
    slots, fd = Slots.create(cells=64, key_bytes=1024)
    for name in "abc":
        slots.counter(HITS, name).inc()
    os.pwrite(fd, data, at)

    snapshot = read_once(fd)
    os.close(fd)

    assert {one.values for one in snapshot.readings} <= {("a",), ("b",), ("c",)}
