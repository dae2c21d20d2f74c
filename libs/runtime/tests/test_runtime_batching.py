"""When a batch leaves and how large it is: properties of decide and shed_late."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.arrivals import ArrivalPredictor
from slipway_runtime.batching import Send, Wait, decide, shed_late
from slipway_runtime.latency import CostTable
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Limits, Ticket

LIMITS = Limits(max_rows=64)
TICKETS = st.lists(st.tuples(st.integers(1, 64), st.floats(0.0, 0.2)), min_size=1, max_size=60)


def costs(fixed_s: float = 0.005, row_s: float = 0.0001) -> CostTable:
    table = CostTable(64)
    for size in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(4):
            table.learn(size, fixed_s + row_s * size)
    return table


def queued(tickets: list[tuple[int, float]], now: float = 0.0) -> TicketQueue:
    queue = TicketQueue(10_000)
    for rows, slack_s in tickets:
        queue.push(Ticket(b"", rows, now + slack_s, now))
    return queue


def returning(clients: int, gap_s: float = 40e-6) -> ArrivalPredictor:
    """A predictor that has seen `clients` clients come back together a few times, and was answered at 0.0."""
    predictor = ArrivalPredictor()
    for round_ in (-3, -2, -1):
        for waiting in range(1, clients + 1):
            predictor.arrived(round_ + waiting * gap_s, waiting)
        predictor.sent(0, clients)
        predictor.answered(float(round_ + 1), clients)
    return predictor


@given(TICKETS, st.integers(0, 64), st.booleans())
def test_a_batch_never_exceeds_max_rows(tickets: list[tuple[int, float]], clients: int, flush: bool) -> None:
    queue = queued(tickets)

    decision = decide(queue, costs(), returning(clients), LIMITS, 0.0, flush=flush)

    if isinstance(decision, Send):
        assert 1 <= decision.rows <= LIMITS.max_rows
        assert 1 <= sum(ticket.rows for ticket in queue.take(decision.rows)) <= LIMITS.max_rows


@given(TICKETS, st.integers(0, 64))
def test_a_batch_meets_the_earliest_deadline_unless_its_ticket_alone_could_not(
    tickets: list[tuple[int, float]], clients: int
) -> None:
    table, queue = costs(), queued(tickets)
    head = queue.head()
    assert head is not None

    decision = decide(queue, table, returning(clients), LIMITS, 0.0)

    if isinstance(decision, Send) and table.p95(head.rows) <= head.deadline:
        assert table.p95(sum(ticket.rows for ticket in queue.take(decision.rows))) <= head.deadline


@given(TICKETS, st.integers(0, 64))
def test_every_wait_ends_within_the_window_and_before_the_deadline_is_lost(
    tickets: list[tuple[int, float]], clients: int
) -> None:
    table, queue = costs(), queued(tickets)
    head = queue.head()
    assert head is not None

    decision = decide(queue, table, returning(clients), LIMITS, 0.0)

    if isinstance(decision, Wait):
        assert 0.0 < decision.until <= LIMITS.gather_s
        assert decision.until + table.p95(queue.rows) <= head.deadline
        assert queue.rows < decision.rows <= LIMITS.max_rows


@given(st.lists(st.floats(1e-5, 10.0), min_size=1, max_size=50), st.floats(0.0001, 0.1))
def test_a_single_client_never_waits(pauses: list[float], fixed_s: float) -> None:
    """One client asks, gets its answer, pauses as it likes, asks again: each request leaves at once."""
    table, predictor, now = costs(fixed_s), ArrivalPredictor(), 0.0

    for pause in pauses:
        now += pause
        queue = queued([(1, 60.0)], now)
        predictor.arrived(now, 1)
        decision = decide(queue, table, predictor, LIMITS, now)

        assert decision == Send(1, "idle")

        predictor.sent(0, 1)
        now += fixed_s
        predictor.answered(now, 1)


def test_an_empty_queue_waits_for_the_first_row() -> None:
    assert decide(TicketQueue(10), costs(), ArrivalPredictor(), LIMITS, 0.0) == Wait(math.inf, 1)


def test_returning_clients_are_waited_for_while_it_raises_throughput() -> None:
    """5 ms are shared by all rows: with a gap of 40 us every one of 16 is worth waiting for, and then nobody is."""
    predictor = returning(16)
    for waiting in range(1, 16):
        predictor.arrived(40e-6 * waiting, waiting)
        decision = decide(queued([(1, 60.0)] * waiting), costs(), predictor, LIMITS, 40e-6 * waiting)

        assert isinstance(decision, Wait)
        assert decision.rows == 16

    predictor.arrived(40e-6 * 16, 16)

    assert decide(queued([(1, 60.0)] * 16), costs(), predictor, LIMITS, 40e-6 * 16) == Send(16, "idle")


def slowly_returning(clients: int, return_s: float) -> ArrivalPredictor:
    """Clients whose answers take a while to be written: the last of them is back `return_s` after its answer."""
    predictor = ArrivalPredictor(longest_pause_s=0.05)
    for round_ in range(-8, 0):
        for waiting in range(1, clients + 1):
            predictor.arrived(round_ + return_s * (0.5 + 0.5 * waiting / clients), waiting)
        predictor.sent(0, clients)
        predictor.answered(float(round_ + 1), clients)
    return predictor


def test_everybody_is_waited_for_when_one_batch_is_better_than_two_halves() -> None:
    """64 are back after 4 ms: 11.4 + 4 ms for all of them are less than two times 8.2 ms."""
    predictor = slowly_returning(64, 0.004)
    predictor.arrived(0.002, 30, 30)

    decision = decide(queued([(1, 1.0)] * 30), costs(), predictor, LIMITS, 0.002)

    assert isinstance(decision, Wait)
    assert decision.until == pytest.approx(0.0048, rel=0.01)
    assert decision.rows == 64


def test_two_halves_take_turns_when_the_way_back_is_longer_than_the_fixed_cost() -> None:
    """64 are back after 8 ms: 11.4 + 8 ms are more than two times 8.2 ms, so one half computes while one returns."""
    predictor = slowly_returning(64, 0.008)
    predictor.arrived(0.006, 32, 32)

    decision = decide(queued([(1, 1.0)] * 32), costs(), predictor, LIMITS, 0.006)

    assert decision == Send(32, "knee")


def test_a_cheap_model_waits_for_nobody() -> None:
    predictor = returning(16, gap_s=0.001)
    predictor.arrived(0.001, 1)

    assert decide(queued([(1, 60.0)]), costs(0.0001, 0.0001), predictor, LIMITS, 0.001) == Send(1, "knee")


def test_silence_sends_what_is_there() -> None:
    predictor = returning(16)
    predictor.arrived(40e-6, 1)
    queue = queued([(1, 60.0)])
    decision = decide(queue, costs(), predictor, LIMITS, 40e-6)
    assert isinstance(decision, Wait)

    assert decide(queue, costs(), predictor, LIMITS, decision.until) == Send(1, "idle")


def test_a_wait_ends_with_the_gather_window() -> None:
    """Answers went out at 0; the next arrival may take 3 ms, but nobody is waited for longer than 4 ms."""
    predictor = returning(16, gap_s=0.003)
    predictor.arrived(0.003, 1)

    decision = decide(queued([(1, 60.0)]), costs(0.5), predictor, Limits(gather_s=0.004), 0.003)

    assert isinstance(decision, Wait)
    assert decision.until == pytest.approx(0.003 + 0.004)


def test_a_wait_ends_after_the_time_of_one_batch() -> None:
    predictor = returning(16, gap_s=0.003)
    predictor.arrived(0.003, 1)

    decision = decide(queued([(1, 60.0)]), costs(0.005), predictor, LIMITS, 0.003)

    assert isinstance(decision, Wait)
    assert decision.until == pytest.approx(0.003 + 0.0051)


def test_a_wait_ends_at_the_last_moment_of_the_earliest_deadline() -> None:
    """One more row costs 5.2 ms and 2 ms are kept for timers: 7.24 ms leave 40 us to wait."""
    predictor = returning(16)
    predictor.arrived(40e-6, 1)

    decision = decide(queued([(1, 0.00724)]), costs(), predictor, LIMITS, 0.0)

    assert isinstance(decision, Wait)
    assert decision.until == pytest.approx(40e-6)


def test_a_full_batch_leaves_at_once() -> None:
    assert decide(queued([(1, 60.0)] * 70), costs(), returning(200), LIMITS, 0.0) == Send(64, "full")


def test_a_draining_pool_waits_for_nobody() -> None:
    predictor = returning(16)
    predictor.arrived(40e-6, 1)

    assert decide(queued([(1, 60.0)]), costs(), predictor, LIMITS, 40e-6, flush=True) == Send(1, "flush")


@pytest.mark.parametrize("limits", [Limits(max_rows=1), Limits(gather_s=0.0)])
def test_batching_or_gathering_can_be_switched_off(limits: Limits) -> None:
    predictor = returning(16)
    predictor.arrived(40e-6, 1)

    decision = decide(queued([(1, 60.0)]), costs(), predictor, limits, 40e-6)

    assert isinstance(decision, Send)
    assert decision.rows == 1


def test_a_tight_deadline_makes_the_batch_smaller() -> None:
    """5.8 ms allow 8 rows at 5 ms + 0.1 ms a row; those behind have time."""
    queue = queued([(1, 0.00581)] + [(1, 60.0)] * 30)

    assert shed_late(queue, costs(), LIMITS, 0.0) == []
    assert decide(queue, costs(), ArrivalPredictor(), LIMITS, 0.0) == Send(8, "deadline")


def test_a_lost_head_does_not_shrink_the_batch_behind_it() -> None:
    queue = queued([(1, 0.001)] + [(1, 60.0)] * 30)

    assert decide(queue, costs(), ArrivalPredictor(), LIMITS, 0.0) == Send(31, "deadline")


def test_what_is_lost_is_shed_before_it_is_computed() -> None:
    queue = queued([(1, 0.001)] * 3 + [(1, 60.0)] * 30)

    shed = shed_late(queue, costs(), LIMITS, 0.0)

    assert len(shed) == 3
    assert decide(queue, costs(), ArrivalPredictor(), LIMITS, 0.0) == Send(30, "idle")


def test_in_an_overload_a_few_heads_are_shed_so_that_batches_stay_full() -> None:
    """All deadlines are a little too near for a full batch: shrinking would make every later batch late as well."""
    queue = queued([(1, 0.008 + 0.0001 * at) for at in range(200)])

    table = costs()

    shed = shed_late(queue, table, LIMITS, 0.0)
    decision = decide(queue, table, ArrivalPredictor(), LIMITS, 0.0)

    assert 0 < len(shed) < 64
    assert isinstance(decision, Send)
    assert decision.rows / table.p50(decision.rows) >= 0.95 * 64 / table.p50(64)


@given(st.floats(-1.0, 0.01), st.floats(0.001, 1000.0))
def test_a_ticket_that_is_alone_is_never_shed(slack_s: float, believed_s: float) -> None:
    queue = queued([(1, slack_s)])

    assert shed_late(queue, costs(believed_s), LIMITS, 0.0) == []


@given(TICKETS)
def test_after_shedding_the_head_has_a_chance(tickets: list[tuple[int, float]]) -> None:
    table, queue = costs(), queued(tickets)

    shed = shed_late(queue, table, LIMITS, 0.0)
    head = queue.head()

    assert head is not None
    assert queue.tickets == 1 or table.p50(head.rows) <= head.deadline
    assert len(shed) + queue.tickets == len(tickets)
