"""How tickets of a runner pool end when somebody loses patience: the caller, the clock, or hypothesis."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_wire_fakes import Station, at_station, result_of, result_slab, turns

from slipway_runtime import Answer, DeadlineExceeded, Refused
from slipway_runtime.wire.frames import Answered, Cancel, Release, ShareSlab, Submit, SubmittedTicket

LARGE = b"x" * 20_000


def test_a_cancelled_ticket_keeps_its_place_until_the_dispatcher_lets_go_of_it() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        future = lane.submit_nowait(LARGE, 1, s.later(60))
        (ticket,) = await s.peer.submitted()

        future.cancel()

        assert (await s.peer.next(Cancel)).ids == [ticket.id]
        assert lane.statistics().cancelled == 1
        assert s.client.slab_used_bytes > 0
        assert s.peer.payload(ticket) == LARGE
        s.peer.reject(ticket, "released")
        later = lane.submit_nowait(b"row", 1, s.later(60))
        s.peer.answer(*await s.peer.submitted())
        await result_of(later)
        assert s.client.slab_used_bytes == 0
        assert lane.statistics().is_conserved

    at_station(main)


def test_a_ticket_cancelled_in_the_turn_it_came_never_leaves() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        lane.submit_nowait(LARGE, 1, s.later(60)).cancel()
        kept = lane.submit_nowait(b"kept", 1, s.later(60))

        (ticket,) = await s.peer.submitted()

        assert ticket.payload == b"kept"
        await turns()
        assert s.client.slab_used_bytes == 0
        s.peer.answer(ticket)
        await result_of(kept)
        assert s.peer.is_silent()
        assert lane.statistics().cancelled == 1

    at_station(main)


def test_an_answer_for_callers_of_whom_some_left_gives_the_others_their_own_rows() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        futures = [lane.submit_nowait(b"rows", 2, s.later(60)) for _ in range(3)]
        tickets = await s.peer.submitted()
        futures[0].cancel()
        futures[1].cancel()

        s.peer.answer(*tickets)

        answer = await result_of(futures[2])
        assert (answer.start, answer.stop) == (4, 6)
        assert (lane.statistics().ok, lane.statistics().cancelled) == (1, 2)

    at_station(main)


@pytest.mark.parametrize("word", ["answered", "model_failed", "refused.queue_full", "deadline_exceeded"])
def test_a_caller_that_leaves_in_the_turn_of_the_last_word_has_left(word: str) -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        future = lane.submit_nowait(b"row", 1, s.later(60))
        (ticket,) = await s.peer.submitted()
        if word == "answered":
            s.peer.answer(ticket)
        else:
            s.peer.reject(ticket, word)

        s.loop.call_soon(future.cancel)  # runs before what is ready to be read, its callbacks after it
        while s.client.outstanding:
            await turns()

        assert future.cancelled()
        statistics = lane.statistics()
        assert (statistics.cancelled, statistics.admitted) == (1, 1)
        assert statistics.is_conserved

    at_station(main)


def test_a_result_that_nobody_waits_for_is_released_too() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        slab, (place,) = result_slab(LARGE)
        future = lane.submit_nowait(b"row", 1, s.later(60))
        (ticket,) = await s.peer.submitted()
        future.cancel()
        await s.peer.next(Cancel)

        s.peer.say(ShareSlab(3, slab.capacity), [slab.fileno()])
        s.peer.say(Answered([ticket.id], place, 3))

        assert (await s.peer.next(Release)).places == [(3, place.offset)]
        slab.close()

    at_station(main)


@pytest.mark.alone
def test_a_silent_dispatcher_holds_nobody_beyond_the_deadline() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        patient = lane.submit_nowait(b"row", 1, s.later(60))
        deadline = s.later(0.05)
        future = lane.submit_nowait(LARGE, 1, deadline)
        hasty = lane.submit_nowait(b"row", 1, s.later(0.02))

        for one in (hasty, future):
            with pytest.raises(DeadlineExceeded):
                await result_of(one)

        late_s = s.later(0) - deadline
        assert 0 <= late_s < 0.5
        tickets = await s.peer.submitted()
        cancelled = (await s.peer.next(Cancel)).ids
        if len(cancelled) < 2:
            cancelled += (await s.peer.next(Cancel)).ids
        assert cancelled == [tickets[2].id, tickets[1].id]
        assert s.client.slab_used_bytes > 0, "a runner may still read it"
        assert not patient.done()
        assert lane.statistics().expired == 2
        assert lane.statistics().is_conserved

    at_station(main)


def test_a_silent_dispatcher_cannot_make_a_worker_hold_more_than_its_bound() -> None:
    """Tickets that expired count until the last word about them: shared memory and frames are still taken up."""

    async def main(s: Station) -> None:
        lane = s.lane(max_rows=2, max_queued_rows=4)
        expired = [lane.submit_nowait(b"rows", 2, s.later(0.001)) for _ in range(2)]
        for future in expired:
            with pytest.raises(DeadlineExceeded):
                await result_of(future)

        with pytest.raises(Refused, match="its queue is full"):
            lane.submit_nowait(b"row", 1, s.later(60))

        for ticket in await s.peer.submitted():
            s.peer.reject(ticket, "released")
        await s.peer.next(Cancel)
        await turns()
        lane.submit_nowait(b"row", 1, s.later(60))

    at_station(main)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 4)),
        st.tuples(st.just("submit_large"), st.integers(1, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("answer"), st.integers(1, 4)),
        st.tuples(st.just("reject"), st.sampled_from(["model_failed", "refused.queue_full", "deadline_exceeded"])),
        st.tuples(st.just("turn"), st.just(0)),
        st.tuples(st.just("expire"), st.just(0)),
        st.tuples(st.just("break"), st.just(0)),
    ),
    max_size=40,
)


class Ledger:
    """Callers, and the tickets the dispatcher has heard of and not said its last word about."""

    def __init__(self, station: Station) -> None:
        self.s = station
        self.lane = station.lane(max_rows=4, max_queued_rows=24)
        self.futures: list[asyncio.Future[Answer]] = []
        self.known: list[SubmittedTicket] = []

    def submit(self, payload: bytes, rows: int, timeout_s: float = 60.0) -> None:
        try:
            self.futures.append(self.lane.submit_nowait(payload, rows, self.s.later(timeout_s)))
        except Refused:
            return

    def hear(self) -> None:
        self.s.peer.is_silent()
        while self.s.peer.frames:
            frame, _ = self.s.peer.frames.popleft()
            assert isinstance(frame, Submit | Cancel)
            if isinstance(frame, Submit):
                self.known += frame.tickets

    async def step(self, what: str, how: int | str) -> None:
        if what == "submit":
            self.submit(b"row", int(how))
        elif what == "submit_large":
            self.submit(LARGE, int(how))
        elif what == "expire":
            self.submit(b"row", 1, 1e-9)
        elif what == "cancel" and self.futures:
            self.futures[int(how) % len(self.futures)].cancel()
        elif what == "turn":
            await turns()
        elif what == "break":
            self.s.peer.close()
            self.known.clear()
            await self.s.accept()
        else:
            await turns()
            self.hear()
            if what == "answer" and self.known:
                self.s.peer.answer(*self.known[: int(how)])
                del self.known[: int(how)]
            elif what == "reject" and self.known:
                self.s.peer.reject(self.known.pop(0), str(how))
        assert self.lane.statistics().is_conserved

    async def finish(self) -> None:
        while self.s.client.outstanding:
            await turns()
            self.hear()
            for ticket in self.known:
                self.s.peer.answer(ticket)
            self.known.clear()


@settings(max_examples=40)
@given(steps)
def test_every_ticket_ends_once_and_leaves_nothing_behind(script: list[tuple[str, int | str]]) -> None:
    async def main(s: Station) -> None:
        ledger = Ledger(s)
        for what, how in script:
            await ledger.step(what, how)

        await ledger.finish()

        statistics = ledger.lane.statistics()
        assert statistics.in_flight == 0
        assert all(future.done() for future in ledger.futures)
        outcomes = await asyncio.gather(*ledger.futures, return_exceptions=True)
        assert statistics.ok == sum(isinstance(outcome, Answer) for outcome in outcomes)
        assert s.client.slab_used_bytes == 0

    at_station(main, slab_bytes=100_000)
