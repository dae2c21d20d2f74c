"""The lane of a runner pool: what callers get, and what goes over the wire for it."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from runtime_fakes import Recorder
from runtime_wire_fakes import POOL, Station, at_station, result_of, result_slab, turns

from slipway_runtime import DeadlineExceeded, Limits, ModelFailed, Refused, RowsExceeded
from slipway_runtime.errors import Quarantined
from slipway_runtime.wire.frames import (
    INLINE_BYTES,
    Answered,
    DropSlab,
    Place,
    Release,
    ShareSlab,
    Submit,
    SubmittedTicket,
)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_each_caller_gets_its_rows_of_a_result_that_is_decoded_once(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main(s: Station) -> None:
        decoded: list[bytes] = []
        lane = s.client.line(POOL.name, "churn", limits=Limits(), decode=decoded.append)
        futures = [lane.submit_nowait(b"%d" % rows, rows, s.later(60)) for rows in (1, 3, 2)]
        tickets = await s.peer.submitted()

        s.peer.answer(*tickets, result=b"all")

        answers = [await result_of(future) for future in futures]
        assert [(answer.start, answer.stop) for answer in answers] == [(0, 1), (1, 4), (4, 6)]
        assert decoded == [b"all"]

    at_station(main, loop_factory=loop_factory)


def test_submissions_of_one_turn_leave_as_one_frame_for_each_model_and_key() -> None:
    async def main(s: Station) -> None:
        churn, other = s.lane("churn"), s.lane("other")
        for at in range(10):
            churn.submit_nowait(b"a%d" % at, 1, s.later(60))
            churn.submit_nowait(b"b%d" % at, 1, s.later(60), b"key")
            other.submit_nowait(bytearray(b"c%d" % at), 1, s.later(60))

        frames = [await s.peer.next(Submit) for _ in range(3)]

        assert [(frame.pool, frame.model, frame.key) for frame in frames] == [
            (POOL.name, "churn", b""),
            (POOL.name, "churn", b"key"),
            (POOL.name, "other", b""),
        ]
        for letter, frame in zip("abc", frames, strict=True):
            assert [ticket.payload for ticket in frame.tickets] == [b"%s%d" % (letter.encode(), at) for at in range(10)]
        assert s.peer.is_silent()

    at_station(main)


def test_clients_that_come_back_in_the_turns_that_follow_leave_in_one_frame() -> None:
    """Ten were here a moment ago: the first of them to come back does not leave alone."""

    async def main(s: Station) -> None:
        lane = s.lane()
        futures = [lane.submit_nowait(b"x", 1, s.later(60)) for _ in range(10)]
        s.peer.answer(*await s.peer.submitted())
        for future in futures:
            await result_of(future)

        for _ in range(10):
            lane.submit_nowait(b"y", 1, s.later(60))
            await turns(1)

        assert len(await s.peer.submitted()) == 10

    at_station(main)


def test_a_loop_that_always_brings_somebody_does_not_hold_the_first_one_up() -> None:
    """Three thousand were here a moment ago, and come back one each turn: the first leave long before the last."""
    crowd = 3_000

    async def main(s: Station) -> None:
        lane = s.lane(max_queued_rows=2 * crowd)
        futures = [lane.submit_nowait(b"x", 1, s.later(60)) for _ in range(crowd)]
        s.peer.answer(*await s.peer.submitted())
        for future in futures:
            await result_of(future)

        for _ in range(crowd):
            lane.submit_nowait(b"y", 1, s.later(60))
            await turns(1)

        assert len(await s.peer.submitted()) < crowd // 2

    at_station(main)


def test_much_inline_payload_leaves_in_several_frames() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        futures = [lane.submit_nowait(b"x" * INLINE_BYTES, 1, s.later(60)) for _ in range(200)]

        tickets: list[SubmittedTicket] = []
        frames = 0
        while len(tickets) < len(futures):
            tickets += await s.peer.submitted()
            frames += 1

        assert frames == 4
        assert [ticket.id for ticket in tickets] == sorted(ticket.id for ticket in tickets)

    at_station(main)


def test_a_large_payload_lies_in_shared_memory_until_the_last_word_about_it() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        payload = b"p" * (INLINE_BYTES + 1)
        future = lane.submit_nowait(payload, 1, s.later(60))
        (ticket,) = await s.peer.submitted()

        assert isinstance(ticket.payload, Place)
        assert s.peer.payload(ticket) == payload
        assert s.client.slab_used_bytes >= len(payload)
        s.peer.answer(ticket)
        await result_of(future)
        assert s.client.slab_used_bytes == 0

    at_station(main)


def test_a_large_result_is_copied_once_and_released_at_once() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        slab, (first, second) = result_slab(b"one" * 9000, b"two" * 9000)
        futures = [lane.submit_nowait(b"row", 1, s.later(60)) for _ in range(2)]
        tickets = await s.peer.submitted()
        s.peer.say(ShareSlab(7, slab.capacity), [slab.fileno()])
        s.peer.say(Answered([tickets[0].id], first, 7))
        s.peer.say(Answered([tickets[1].id], second, 7))
        s.peer.say(DropSlab(7))

        answers = [await result_of(future) for future in futures]

        assert (await s.peer.next(Release)).places == [(7, first.offset), (7, second.offset)]
        slab.free(first.offset)
        slab.write(b"overwritten" * 2000)
        assert [answer.result for answer in answers] == [b"one" * 9000, b"two" * 9000]
        slab.close()

    at_station(main)


@pytest.mark.parametrize(
    ("code", "number", "expected", "says"),
    [
        ("refused.queue_full", 0.5, Refused, "its queue is full"),
        ("refused.deadline", 0.5, Refused, "cannot answer before the deadline"),
        ("refused.draining", 0.0, Refused, "it is draining"),
        ("deadline_exceeded", 0.5, DeadlineExceeded, "did not answer before the deadline"),
        ("model_failed", 0.0, ModelFailed, "model 'churn' raised KeyError for this request: 'no such row'"),
        ("quarantined", 0.0, Quarantined, "ended two runners on this request"),
        ("rows_exceeded", 8.0, RowsExceeded, "expected 1 to 8, got 3"),
        ("of a later version", 0.0, ModelFailed, "of a later version"),
    ],
)
def test_a_last_word_without_a_result_reaches_its_caller_as_an_error(
    code: str, number: float, expected: type[Exception], says: str
) -> None:
    async def main(s: Station) -> None:
        observer = Recorder()
        lane = s.lane(observer=observer)
        future = lane.submit_nowait(b"row", 3, s.later(60))
        mate = lane.submit_nowait(b"row", 1, s.later(60))
        bad, good = await s.peer.submitted()

        s.peer.reject(bad, code, "no such row", number, "KeyError" if code == "model_failed" else "")
        s.peer.answer(good)

        with pytest.raises(expected, match=says) as raised:
            await result_of(future)
        if isinstance(raised.value, Refused):
            assert raised.value.retry_after_s == number
        await result_of(mate)
        statistics = lane.statistics()
        assert statistics.is_conserved
        assert statistics.ok == 1
        refusals = sum(statistics.refused.values())
        assert (statistics.admitted, refusals) == ((1, 1) if expected is Refused else (2, 0))
        ended = {"Refused": "refused", "DeadlineExceeded": "expired"}.get(expected.__name__, "failed")
        names = [event[0] for event in observer.events]
        assert names.count(ended) == 1
        assert names.count("admitted") == statistics.admitted
        assert ("answered", "churn", 1) in observer.events

    at_station(main)


@pytest.mark.parametrize("rows", [0, 65])
def test_a_ticket_larger_than_a_batch_never_leaves(rows: int) -> None:
    async def main(s: Station) -> None:
        with pytest.raises(RowsExceeded, match="expected 1 to 64"):
            s.lane().submit_nowait(b"rows", rows, s.later(60))
        await turns()
        assert s.peer.is_silent()

    at_station(main)


def test_a_deadline_that_has_passed_is_refused_at_once() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        with pytest.raises(Refused, match="cannot answer before the deadline"):
            lane.submit_nowait(b"row", 1, s.later(0))
        assert lane.statistics().refused["deadline"] == 1

    at_station(main)


def test_what_a_worker_may_hold_is_bounded_and_an_answer_makes_room() -> None:
    async def main(s: Station) -> None:
        lane = s.lane(max_rows=4, max_queued_rows=8)
        futures = [lane.submit_nowait(b"rows", 4, s.later(60)) for _ in range(2)]

        with pytest.raises(Refused, match="its queue is full"):
            lane.submit_nowait(b"row", 1, s.later(60))

        s.peer.answer((await s.peer.submitted())[0])
        await result_of(futures[0])
        futures.append(lane.submit_nowait(b"rows", 4, s.later(60)))
        with pytest.raises(Refused) as refused:
            lane.submit_nowait(b"row", 1, s.later(60))
        assert refused.value.retry_after_s > 0
        assert lane.statistics().refused["queue_full"] == 2

    at_station(main)


def test_a_payload_without_room_in_shared_memory_is_refused_and_one_with_room_is_not() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        lane.submit_nowait(b"x" * 60_000, 1, s.later(60))

        with pytest.raises(Refused, match="its queue is full"):
            lane.submit_nowait(b"x" * 60_000, 1, s.later(60))

        future = lane.submit_nowait(b"x", 1, s.later(60))
        s.peer.answer((await s.peer.submitted())[1])
        await result_of(future)
        assert lane.statistics().is_conserved

    at_station(main, slab_bytes=100_000)


def test_a_result_that_does_not_decode_fails_its_callers_and_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def main(s: Station) -> None:
        def refuse(blob: bytes) -> object:
            raise ValueError("another schema")

        lane = s.client.line(POOL.name, "churn", limits=Limits(), decode=refuse)
        future = lane.submit_nowait(b"row", 1, s.later(60))

        s.peer.answer(*await s.peer.submitted())

        with pytest.raises(ModelFailed, match="another schema"):
            await result_of(future)
        assert lane.statistics().is_conserved
        assert s.client.is_connected

    at_station(main)
    assert "pooled_result_invalid" in caplog.text


def test_a_drain_refuses_what_comes_and_waits_for_what_is_under_way() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        future = lane.submit_nowait(b"row", 1, s.later(60))
        tickets = await s.peer.submitted()

        drain = asyncio.create_task(lane.drain(60))
        await turns()
        with pytest.raises(Refused, match="draining"):
            lane.submit_nowait(b"row", 1, s.later(60))
        assert not drain.done()
        s.peer.answer(*tickets)

        report = await drain
        assert (report.is_clean, report.abandoned) == (True, 0)
        assert future.done()
        assert (await lane.drain(60)).is_clean

    at_station(main)


def test_a_drain_out_of_time_gives_its_callers_up() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        future = lane.submit_nowait(b"row", 1, s.later(60))
        await s.peer.submitted()

        report = await lane.drain(0.0)

        assert (report.is_clean, report.abandoned) == (False, 1)
        with pytest.raises(DeadlineExceeded):
            await result_of(future)
        assert lane.statistics().expired == 1
        assert lane.statistics().is_conserved

    at_station(main)


def test_a_model_has_one_lane() -> None:
    async def main(s: Station) -> None:
        s.lane()
        with pytest.raises(ValueError, match="a second lane for model 'churn'"):
            s.lane()

    at_station(main)
