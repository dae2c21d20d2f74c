"""Admission: what is refused, what a refusal says, and that the door never stays shut by mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.admission import Admission, Refusal
from slipway_runtime.latency import CostTable
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Limits, Ticket

LIMITS = Limits(max_rows=64, max_queued_rows=1000)
FULL_BATCH_S = 0.005 + 64 * 0.0001


def costs() -> CostTable:
    table = CostTable(64)
    for size in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(4):
            table.learn(size, 0.005 + 0.0001 * size)
    return table


def pool(waiting: int = 0, deadline: float = 10.0) -> tuple[TicketQueue, Admission]:
    queue = TicketQueue(LIMITS.max_queued_rows)
    for _ in range(waiting):
        queue.push(Ticket(b"", 1, deadline, 0.0))
    return queue, Admission(queue, costs(), LIMITS)


@given(st.floats(1e-6, 1.0), st.floats(0.0, 1000.0))
def test_an_idle_pool_admits_every_deadline_that_has_not_passed(slack_s: float, believed_s: float) -> None:
    """Whatever the table believes: the request is the probe that corrects it."""
    table = CostTable(64)
    table.learn(1, believed_s)
    admission = Admission(TicketQueue(100), table, LIMITS)

    assert admission.judge(1, 1.0 + slack_s, 1.0) is None


def test_a_deadline_that_has_passed_is_refused() -> None:
    _, admission = pool()

    assert admission.judge(1, 1.0, 1.0) == Refusal("deadline", 0.0)


def test_one_cold_sample_does_not_lock_the_door() -> None:
    """A first batch of 30 s against deadlines of 1 s: after one probe the pool serves at full rate again."""
    table, queue = CostTable(64), TicketQueue(1000)
    table.learn(1, 30.0)
    admission = Admission(queue, table, LIMITS)
    assert admission.judge(1, 1.0, 0.0) is None

    admission.sent(1, 0.0)
    table.learn(1, 0.005)
    admission.answered()
    admission.believe(table)

    for _ in range(100):
        assert admission.judge(1, 1.0, 0.005) is None
        queue.push(Ticket(b"", 1, 1.0, 0.005))


def test_backlog_that_cannot_be_drained_in_time_is_refused_with_its_drain_time() -> None:
    _, admission = pool(waiting=640, deadline=0.05)
    admission.sent(64, 0.0)

    refusal = admission.judge(1, 0.100, 0.0)

    assert refusal is not None
    assert refusal.reason == "deadline"
    assert refusal.retry_after_s == pytest.approx(11 * FULL_BATCH_S, rel=0.01)
    assert admission.judge(1, 12 * FULL_BATCH_S + 0.001, 0.0) is None


def test_rows_that_leave_later_do_not_keep_an_urgent_request_out() -> None:
    _, admission = pool(waiting=640, deadline=10.0)
    admission.sent(64, 0.0)

    assert admission.judge(1, 3 * FULL_BATCH_S, 0.0) is None


def test_a_full_queue_is_full_for_everybody() -> None:
    _, admission = pool(waiting=1000)

    refusal = admission.judge(1, 1e9, 0.0)

    assert refusal is not None
    assert refusal.reason == "queue_full"
    assert refusal.retry_after_s == pytest.approx(15 * FULL_BATCH_S + 0.009, rel=0.01)


def test_an_overdue_batch_closes_the_door_by_degrees_and_its_answer_opens_it() -> None:
    _, admission = pool(waiting=1)
    admission.sent(1, 0.0)
    assert admission.judge(1, 0.1 + 0.100, 0.1) is not None
    assert admission.judge(1, 0.1 + 1.000, 0.1) is None

    admission.answered()

    assert admission.judge(1, 0.1 + 0.100, 0.1) is None


@given(st.integers(0, 900), st.integers(1, 64), st.floats(0.0, 2.0))
def test_what_is_admitted_has_time_for_the_backlog_before_it(waiting: int, rows: int, slack_s: float) -> None:
    _, admission = pool(waiting, deadline=slack_s)
    admission.sent(64, 0.0)

    refusal = admission.judge(rows, slack_s, 0.0)

    if refusal is None:
        assert slack_s >= admission.finish_s(rows, slack_s, 0.0) - 1e-9
    else:
        assert refusal.retry_after_s > 0 or slack_s <= 0


def test_replicas_share_the_backlog() -> None:
    queue, _ = pool(waiting=640)
    one, four = (Admission(queue, costs(), LIMITS, replicas=replicas) for replicas in (1, 4))

    assert four.drain_s(0.0) == pytest.approx(one.drain_s(0.0) / 4)
