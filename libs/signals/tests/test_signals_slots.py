import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slot_writers import DEPTH, HITS, SECONDS, read_once, values, writer

from slipway_signals.slotfile import CELLS, Metric, SlotError, make_slot_fd
from slipway_signals.slots import Slots
from slipway_signals.snapshots import SlotReader


@pytest.fixture
def fd() -> Iterator[int]:
    fd = make_slot_fd()
    yield fd
    os.close(fd)


def test_what_is_written_is_read(fd: int) -> None:
    slots = Slots.attach(fd)
    slots.counter(HITS, "a").inc()
    slots.counter(HITS, "a").inc(2.5)
    slots.counter(HITS, "ü→").inc()
    depth = slots.gauge(DEPTH)
    depth.set(7.0)
    depth.add(-2.0)
    waits = slots.histogram(SECONDS)
    for seconds in (0.05, 0.1, 0.100001, 1.0, 5.0):
        waits.observe(seconds)

    snapshot = read_once(fd)

    assert snapshot.problem is None
    assert values(snapshot) == {
        ("hits_total", "a"): [3.5],
        ("hits_total", "ü→"): [1.0],
        ("depth",): [5.0],
        ("wait_seconds",): [2.0, 2.0, 1.0, pytest.approx(6.250001)],
    }
    assert snapshot.readings[0].metric == HITS
    assert waits.count == 5.0
    assert waits.sum == pytest.approx(6.250001)
    assert (slots.counter(HITS, "a").value, depth.value) == (3.5, 5.0)


@given(st.lists(st.floats(0.0, 2.0), max_size=100))
def test_a_histogram_counts_what_a_naive_count_counts(observed: list[float]) -> None:
    slots, fd = Slots.create()
    waits = slots.histogram(SECONDS)

    for value in observed:
        waits.observe(value)
    cells = values(read_once(fd))["wait_seconds",]
    os.close(fd)

    below = sum(value <= 0.1 for value in observed)
    middle = sum(0.1 < value <= 1.0 for value in observed)
    assert cells[:3] == [below, middle, len(observed) - below - middle]
    assert cells[3] == pytest.approx(sum(observed))


def test_a_value_that_would_make_a_sum_fall_or_poison_it_is_ignored_and_counted(fd: int) -> None:
    slots = Slots.attach(fd)
    hits, waits = slots.counter(HITS, "a"), slots.histogram(SECONDS)

    for bad in (-1.0, float("nan"), float("inf"), float("-inf")):
        hits.inc(bad)
        waits.observe(bad)

    snapshot = read_once(fd)
    assert values(snapshot) == {("hits_total", "a"): [0.0], ("wait_seconds",): [0.0] * 4}
    assert snapshot.ignored == slots.ignored == 8


def test_when_the_cells_run_out_new_series_are_dropped_and_counted() -> None:
    slots, fd = Slots.create(cells=5)
    kept = [slots.histogram(SECONDS), slots.counter(HITS, "a")]

    dropped = slots.counter(HITS, "b")
    dropped.inc()
    slots.histogram(Metric("other_seconds", "histogram", "", (), (1.0,))).observe(3.0)
    slots.gauge(DEPTH).set(1.0)

    snapshot = read_once(fd)
    os.close(fd)
    assert len(kept) == len(snapshot.readings) == 2
    assert snapshot.dropped == slots.dropped == 3
    assert values(snapshot)["hits_total", "a"] == [0.0]


def test_when_the_keys_run_out_new_series_are_dropped_and_counted() -> None:
    slots, fd = Slots.create(key_bytes=1024)

    for number in range(10_000):
        slots.counter(HITS, f"place-{number}").inc()

    snapshot = read_once(fd)
    os.close(fd)
    assert 5 < len(snapshot.readings) < 50
    assert snapshot.dropped == 10_000 - len(snapshot.readings)
    assert len(slots._handles) == len(snapshot.readings)
    assert all(cells == [1.0] for cells in values(snapshot).values())


def test_a_slot_has_one_writer(fd: int) -> None:
    Slots.attach(fd)

    with pytest.raises(SlotError, match=f"already has a writer: pid {os.getpid()}"):
        Slots.attach(fd)


def test_a_nameless_slot_cannot_be_cut_off(fd: int) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("only Linux can seal a file")

    with pytest.raises(PermissionError):
        os.ftruncate(fd, 100)


def test_a_slot_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "slot"
    os.close(make_slot_fd(path))

    with pytest.raises(SlotError, match="could not be made"):
        make_slot_fd(path)

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slot"
    path.write_bytes(b"x" * 4096)

    with path.open("r+b") as file, pytest.raises(SlotError, match="does not begin like a slot file"):
        Slots.attach(file.fileno())


def test_asking_for_a_metric_as_something_else_is_our_bug(fd: int) -> None:
    slots = Slots.attach(fd)

    with pytest.raises(TypeError, match="bug in slipway"):
        slots.counter(DEPTH)
    with pytest.raises(TypeError, match="bug in slipway"):
        slots.counter(HITS, "a", "b")


def test_an_unused_slot_takes_no_memory(fd: int) -> None:
    Slots.attach(fd).counter(HITS, "a").inc()

    assert os.fstat(fd).st_size >= 8 * CELLS
    assert os.fstat(fd).st_blocks * 512 <= 65_536


def test_what_a_killed_process_counted_is_all_there(fd: int) -> None:
    code = """
hits = slots.counter(HITS, "a")
while True:
    hits.inc()
    sys.stdout.buffer.write(b"x")
    sys.stdout.buffer.flush()
"""
    with writer(fd, code) as process:
        assert process.stdout is not None
        told = len(process.stdout.read(1000))
        process.kill()
        told += len(process.stdout.read())
        process.wait()

    assert told <= values(read_once(fd))["hits_total", "a"][0] <= told + 1


def test_a_reader_never_sees_half_a_series(fd: int) -> None:
    code = """
print(flush=True)
for number in range(3000):
    slots.counter(HITS, f"place-{number}").inc()
"""
    reader = SlotReader(fd)
    before = 0
    with writer(fd, code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while before < 3000:
            snapshot = reader.read()
            assert snapshot.problem is None
            names = [one.values[0] for one in snapshot.readings]
            assert names == [f"place-{number}" for number in range(len(names))]
            assert all(one.cells == [1.0] for one in snapshot.readings[:-1])
            assert len(names) >= before
            before = len(names)
    reader.close()
