"""The queue against a sorted list: order, rows, cancellation and expiry."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Ticket

MAX_ROWS = 40


def ticket(deadline: float, rows: int = 1, arrived: float = 0.0) -> Ticket:
    return Ticket(b"payload", rows, deadline, arrived)


class QueueMachine(RuleBasedStateMachine):
    """Every operation of the queue beside the same on a list that is sorted by (deadline, arrival)."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = TicketQueue(MAX_ROWS)
        self.model: list[Ticket] = []
        self.gone: list[Ticket] = []

    def order(self) -> list[Ticket]:
        return sorted(self.model, key=lambda ticket: (ticket.deadline, ticket.sequence))

    @rule(deadline=st.integers(0, 12), rows=st.integers(1, 6))
    def push(self, deadline: int, rows: int) -> None:
        new = ticket(deadline, rows)
        if sum(held.rows for held in self.model) + rows > MAX_ROWS:
            assert not self.queue.has_room(rows)
            with pytest.raises(OverflowError):
                self.queue.push(new)
            return
        assert self.queue.has_room(rows)
        self.queue.push(new)
        self.model.append(new)

    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: int) -> None:
        if self.model:
            chosen = self.model.pop(pick % len(self.model))
            assert self.queue.cancel(chosen)
            assert chosen.payload == b""
            self.gone.append(chosen)

    @rule(pick=st.integers(0, 1000))
    def cancel_what_is_gone(self, pick: int) -> None:
        if self.gone:
            assert not self.queue.cancel(self.gone[pick % len(self.gone)])

    @rule(rows=st.integers(0, 12))
    def take(self, rows: int) -> None:
        expected: list[Ticket] = []
        for held in self.order():
            if sum(taken.rows for taken in expected) + held.rows > rows:
                break
            expected.append(held)
        taken = self.queue.take(rows)
        assert [id(held) for held in taken] == [id(held) for held in expected]
        self._forget(taken)

    @rule(now=st.integers(0, 12))
    def expire(self, now: int) -> None:
        expected = [held for held in self.order() if held.deadline <= now]
        expired = self.queue.expire(now)
        assert [id(held) for held in expired] == [id(held) for held in expected]
        self._forget(expired)

    @rule()
    def discard_head(self) -> None:
        head = self.queue.discard_head()
        assert head is (self.order()[0] if self.model else None)
        self._forget([] if head is None else [head])

    @invariant()
    def counts_what_waits(self) -> None:
        assert self.queue.rows == sum(held.rows for held in self.model)
        assert self.queue.tickets == len(self.model)
        assert self.queue.head() is (self.order()[0] if self.model else None)

    @invariant()
    def estimates_stay_within_what_waits(self) -> None:
        for deadline in (-1, 3, 6, 13):
            assert 0 <= self.queue.rows_before(deadline) <= self.queue.rows
        assert self.queue.rows_before(-1) == 0

    def _forget(self, gone: list[Ticket]) -> None:
        self.gone += gone
        self.model = [held for held in self.model if all(held is not other for other in gone)]


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueAgainstASortedList = QueueMachine.TestCase


@given(st.lists(st.integers(0, 100), min_size=1, max_size=200), st.data())
def test_rows_before_is_exact_at_both_ends(offsets: list[int], data: st.DataObject) -> None:
    queue = TicketQueue(1000)
    for offset in sorted(offsets):
        queue.push(ticket(float(offset)))

    assert queue.rows_before(min(offsets) - 1) == 0
    assert queue.rows_before(max(offsets)) == len(offsets)


def test_deadlines_in_order_never_touch_the_heap() -> None:
    queue = TicketQueue(1000)

    in_order = [queue.push(ticket(float(at // 3))) for at in range(100)]

    assert all(in_order)
    assert queue.statistics().out_of_order == 0


def test_an_earlier_deadline_overtakes() -> None:
    queue = TicketQueue(10)
    late, early = ticket(2.0), ticket(1.0)

    queue.push(late)
    is_latest = queue.push(early)

    assert not is_latest
    assert queue.take(10) == [early, late]


def test_cancelled_tickets_do_not_pile_up() -> None:
    """A client that submits and cancels for ever behind a stuck batch must not grow the queue's memory."""
    queue = TicketQueue(1000)
    queue.push(ticket(1.0))

    for at in range(5000):
        new = ticket(2.0 + at if at % 2 else 1.5)
        queue.push(new)
        queue.cancel(new)

    assert len(queue._line) + len(queue._heap) < 200
    assert queue.rows == 1


def test_deadline_behind_is_exact_for_single_rows_in_order() -> None:
    queue = TicketQueue(100)
    for at in range(10):
        queue.push(ticket(float(at)))

    assert [queue.deadline_behind(rows) for rows in (0, 4, 9)] == [0.0, 4.0, 9.0]
    assert queue.deadline_behind(10) == float("inf")
