"""A runner process computes what a dispatcher hands it, and answers for every ticket."""

from collections.abc import Iterator

import pytest
from runtime_runner_child import SAMPLES, RunnerProcess, group
from runtime_wire_fakes import POOL, Peer, listening, result_slab

from slipway_runtime.wire.frames import Done, DropSlab, Failure, Frame, Place, Release, ResultPart, ShareSlab, Work
from slipway_runtime.wire.slab import SlabView


class Runner:
    """A runner that has joined."""

    def __init__(self, child: RunnerProcess) -> None:
        self.child = child
        self.peer: Peer
        self.peer, self.join, self.slab = child.accept()

    def compute(self, *groups: object, model: str = "churn", key: bytes = b"k", number: int = 1) -> Done:
        self.peer.say(Work(number, model, key, list(groups)))  # type: ignore[arg-type]  # WorkGroup, all of them
        done = self.peer.hear(Done)
        assert done.number == number
        return done

    def bytes_of(self, part: ResultPart, slab: SlabView | None = None) -> bytes:
        return bytes((slab or self.slab).read(part.result)) if isinstance(part.result, Place) else part.result

    def results(self, done: Done) -> dict[tuple[int, ...], bytes]:
        return {tuple(part.tickets): self.bytes_of(part) for part in done.parts}


@pytest.fixture
def runner() -> Iterator[Runner]:
    with listening() as (path, listener):
        child = RunnerProcess(path, listener)
        try:
            runner = Runner(child)
            yield runner
            runner.peer.close()
        finally:
            child.close()


def test_it_joins_with_what_it_is_and_tells_its_supervisor(runner: Runner) -> None:
    assert (runner.join.name, runner.join.pool, runner.join.samples) == ("runner-1", POOL, SAMPLES)
    assert runner.join.pid == runner.child.process.pid
    assert runner.child.supervisor.recv(100) == b'{"says":"ready"}\n'


def test_a_batch_of_several_workers_has_one_result_for_each(runner: Runner) -> None:
    done = runner.compute(group(b"a", b"b,c"), group(b"d", slab=2), group(b"e", b"f", slab=3))

    assert runner.results(done) == {(0, 1): b"k=a,k=b,k=c", (2,): b"k=d", (3, 4): b"k=e,k=f"}
    assert done.failures == []
    assert 0 <= done.compute_s < 30


def test_payloads_are_read_where_workers_put_them(runner: Runner) -> None:
    slab, (first, second) = result_slab(b"large30000", b"one,two,three")
    runner.peer.say(ShareSlab(4, slab.capacity), [slab.fileno()])

    done = runner.compute(group(b"inline", first, slab=4), group(second, slab=4, rows=3))

    assert runner.results(done) == {(0, 1): b"k=inline,k=" + b"x" * 30_000, (2,): b"k=one,k=two,k=three"}
    slab.close()


def test_a_batch_that_was_sent_before_its_slab_was_dropped_is_computed(runner: Runner) -> None:
    slab, (place,) = result_slab(b"row")
    runner.peer.say(ShareSlab(4, slab.capacity), [slab.fileno()])
    runner.peer.wire.send(Work(1, "churn", b"", [group(b"wait"), group(place, slab=4)]))
    runner.peer.wire.send(DropSlab(3))
    runner.peer.wire.send(Work(2, "churn", b"", [group(place, slab=4)]))
    runner.peer.say(DropSlab(4))
    runner.child.let_go()

    assert len(runner.peer.hear(Done).parts) == 2
    assert len(runner.peer.hear(Done).parts) == 1
    slab.close()


def test_results_go_to_shared_memory_until_it_is_full_and_again_when_they_are_released(runner: Runner) -> None:
    large = group(b"large40000")

    parts = [runner.compute(large, number=number).parts[0] for number in range(4)]

    places = [part.result for part in parts if isinstance(part.result, Place)]
    assert len(places) == 2, "two fit in 100 000 bytes"
    assert all(runner.bytes_of(part) == b"k=" + b"x" * 40_000 for part in parts)
    runner.peer.say(Release([(9, places[0].offset)]))
    again = runner.compute(large).parts[0].result
    assert again == places[0]


def test_a_result_that_has_room_nowhere_fails_its_own_callers(runner: Runner) -> None:
    done = runner.compute(group(b"large40000000"), group(b"small", slab=2))

    assert runner.results(done) == {(1,): b"k=small"}
    (failure,) = done.failures
    assert (failure.ticket, failure.type_name) == (0, "WireError")
    assert "no room" in failure.message


def test_a_bad_ticket_fails_alone_and_every_other_is_in_one_part(runner: Runner) -> None:
    done = runner.compute(group(b"a", b"b,c", b"poison"), group(b"d,d", b"e", slab=2), group(b"f", slab=3))

    assert done.failures == [Failure(2, "ValueError", "bad row in a batch of 1")]
    expected = {0: b"k=a", 1: b"k=b,k=c", 3: b"k=d,k=d", 4: b"k=e", 5: b"k=f"}
    told = runner.results(done)
    assert sorted(ticket for tickets in told for ticket in tickets) == sorted(expected)
    for tickets, result in told.items():
        assert result == b",".join(expected[ticket] for ticket in tickets)
        assert tickets in {(0,), (1,), (0, 1), (3,), (4,), (3, 4), (5,)}, "a part is within one group"


def test_when_all_are_bad_all_fail(runner: Runner) -> None:
    done = runner.compute(group(b"poison", b"poison"), group(b"poison", slab=2))

    assert done.parts == []
    assert sorted(failure.ticket for failure in done.failures) == [0, 1, 2]


def test_a_result_of_too_few_rows_fails_only_those_it_does_not_reach(runner: Runner) -> None:
    done = runner.compute(group(b"a"), group(b"short", b"last", slab=2))

    assert runner.results(done) == {(0,): b"k=a"}
    assert [(failure.ticket, failure.type_name) for failure in done.failures] == [(1, "IndexError"), (2, "IndexError")]


def test_a_model_it_does_not_have_fails_the_batch_and_not_the_process(runner: Runner) -> None:
    done = runner.compute(group(b"a", b"b"), model="unknown")

    assert [failure.message for failure in done.failures] == ["this runner has no model 'unknown'"] * 2
    assert runner.results(runner.compute(group(b"a"))) == {(0,): b"k=a"}


@pytest.mark.parametrize("nonsense", ["payload", "frame", "release"])
def test_a_dispatcher_that_talks_nonsense_is_left_and_joined_anew(runner: Runner, nonsense: str) -> None:
    said: dict[str, Frame] = {
        "payload": Work(1, "churn", b"", [group(Place(0, 1), slab=77)]),
        "frame": Done(1, 0.0, []),
        "release": Release([(1, 0)]),
    }
    runner.peer.say(said[nonsense])

    runner.peer.hear_the_end()
    runner.peer.close()
    again = Runner(runner.child)
    assert again.results(again.compute(group(b"a"))) == {(0,): b"k=a"}
    again.peer.close()
