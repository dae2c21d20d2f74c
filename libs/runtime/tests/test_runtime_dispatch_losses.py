"""A replica dies with a batch: who is tried again, who is blamed, and who is told that it is too late."""

import math

import pytest
from runtime_dispatch_simulation import POISON, Replicas

from slipway_runtime.admission import Refusal
from slipway_runtime.dispatch import Dispatcher, Loss, ModelSpec, PoolSpec
from slipway_runtime.request import Ticket


def pool(replicas: int = 1, in_flight: int = 1) -> Replicas:
    """Replicas of a 10 ms model that start again 100 ms after they died."""
    running = Replicas()
    spec = PoolSpec(name="p", models=(ModelSpec(name="m", max_rows=8),), replicas=replicas, in_flight=in_flight)
    running.pool(spec, lambda rows: 0.010, replicas=replicas)
    running.restart_s = 0.1
    return running


def submit(running: Replicas, count: int, *, poisons: int = 0, timeout_s: float = 5.0) -> list[Ticket | Refusal]:
    return [
        running.submit("p", "m", timeout_s, payload=POISON if index < poisons else b"")
        for index in range(poisons + count)
    ]


def in_flight(count: int = 4, timeout_s: float = 10.0) -> tuple[Dispatcher, list[Ticket]]:
    """A dispatcher whose replica 1 computes these tickets since t = 0."""
    dispatcher = Dispatcher()
    dispatcher.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m", gather_s=0.0),)))
    dispatcher.join(1, "p", 0.0)
    tickets = [Ticket(b"row", 1, timeout_s, 0.0) for _ in range(count)]
    for ticket in tickets:
        assert dispatcher.offer("p", "m", b"", ticket, 0.0) is None
    assert [batch.tickets for batch in dispatcher.plan(0.0).batches] == [tickets]
    return dispatcher, tickets


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_poisonous_request_is_found_and_its_batch_mates_are_answered(replicas: int, in_flight: int) -> None:
    running = pool(replicas, in_flight)
    submit(running, 1)
    tickets = submit(running, 30, poisons=1)

    running.run(4.0)

    assert running.how(tickets) == ["quarantined"] + 30 * ["answered"]
    assert len(running.losses) == 2


def test_each_poison_costs_one_more_replica_than_the_first() -> None:
    running = pool()
    submit(running, 1)
    tickets = submit(running, 5, poisons=3)

    running.run(4.0)

    assert running.how(tickets) == 3 * ["quarantined"] + 5 * ["answered"]
    assert len(running.losses) == 4


def test_the_second_attempt_is_alone_and_before_everything_else() -> None:
    running = pool()
    submit(running, 1)
    first = submit(running, 3, poisons=1)
    running.run(0.012)
    later = submit(running, 8, timeout_s=1.0)

    running.run(4.0)

    assert [(batch.rows, batch.is_suspect) for batch in running.batches] == [
        (1, False),
        (4, False),
        *4 * [(1, True)],
        (8, False),
    ]
    assert running.how([*first, *later]) == ["quarantined"] + 11 * ["answered"]


def test_a_suspect_shares_its_replica_with_no_other_batch() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m", max_rows=2),), in_flight=2))
    dispatcher.join(1, "p", 0.0)
    for _ in range(8):
        dispatcher.offer("p", "m", b"", Ticket(b"", 1, 10.0, 0.0), 0.0)
    assert [batch.rows for batch in dispatcher.plan(0.0).batches] == [2, 2]

    dispatcher.lose(1, 0.1)
    dispatcher.join(2, "p", 0.2)

    for _ in range(4):
        (alone,) = dispatcher.plan(0.2).batches
        assert alone.is_suspect
        assert dispatcher.in_flight(2) == 1
        dispatcher.landed(alone.number, 0.2)
    assert [batch.rows for batch in dispatcher.plan(0.2).batches] == [2, 2]


def test_a_busy_replica_gets_nothing_new_while_a_suspect_waits_for_it() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m", max_rows=1),), replicas=2, in_flight=2))
    dispatcher.join(1, "p", 0.0)
    dispatcher.join(2, "p", 0.0)
    for _ in range(10):
        dispatcher.offer("p", "m", b"", Ticket(b"", 1, 10.0, 0.0), 0.0)
    at_two = [batch.number for batch in dispatcher.plan(0.0).batches if batch.replica == 2]
    dispatcher.lose(1, 0.1)

    dispatcher.landed(at_two[0], 0.2)
    between = dispatcher.plan(0.2).batches
    dispatcher.landed(at_two[1], 0.3)

    assert between == ()
    assert [batch.is_suspect for batch in dispatcher.plan(0.3).batches] == [True]


def test_a_second_attempt_waits_for_room_on_its_device() -> None:
    dispatcher = Dispatcher()
    for number, name in enumerate("ab"):
        spec = PoolSpec(name=name, models=(ModelSpec(name="m"),), device="gpu", device_concurrency=1)
        dispatcher.add_pool(spec)
        dispatcher.join(number, name, 0.0)
        dispatcher.offer(name, "m", b"", Ticket(b"", 1, 10.0, 0.0), 0.0)
    (first,) = dispatcher.plan(0.0).batches
    dispatcher.lose(first.replica, 0.1)
    (second,) = dispatcher.plan(0.1).batches
    dispatcher.join(7, first.pool, 0.2)

    between = dispatcher.plan(0.2).batches
    dispatcher.landed(second.number, 0.3)

    assert second.pool != first.pool
    assert between == ()
    assert [batch.replica for batch in dispatcher.plan(0.3).batches] == [7]


def test_nothing_is_tried_again_after_its_deadline() -> None:
    dispatcher, tickets = in_flight(timeout_s=1.0)

    loss = dispatcher.lose(1, 1.0)

    assert loss == Loss(expired=tuple(tickets))
    dispatcher.join(2, "p", 1.0)
    assert dispatcher.plan(1.0).batches == ()


def test_a_second_attempt_that_waits_too_long_expires() -> None:
    dispatcher, tickets = in_flight(timeout_s=1.0)
    dispatcher.lose(1, 0.5)
    assert dispatcher.plan(0.6).wake_at == 1.0

    plan = dispatcher.plan(1.0)

    assert plan.expired == tuple(tickets)
    assert plan.wake_at == math.inf
    (model,) = dispatcher.statistics().pools[0].models
    assert (model.retried, model.expired, model.waiting) == (4, 4, 0)
    assert model.is_conserved


def test_a_ticket_that_was_cancelled_in_flight_is_gone_with_its_replica() -> None:
    dispatcher, tickets = in_flight()
    assert not dispatcher.cancel(tickets[1])

    loss = dispatcher.lose(1, 0.1)

    assert loss.cancelled == (tickets[1],)
    assert loss.retried == (tickets[0], tickets[2], tickets[3])


def test_a_ticket_that_waits_for_its_second_attempt_can_be_cancelled() -> None:
    dispatcher, tickets = in_flight()
    dispatcher.lose(1, 0.1)

    assert dispatcher.cancel(tickets[0])

    dispatcher.join(2, "p", 0.2)
    assert dispatcher.plan(0.2).batches[0].tickets == [tickets[1]]
    (model,) = dispatcher.statistics().pools[0].models
    assert (model.cancelled, model.suspects, model.in_flight) == (1, 2, 1)
    assert model.is_conserved


def test_the_answer_of_a_lost_batch_is_ignored() -> None:
    dispatcher, _ = in_flight()

    dispatcher.lose(1, 0.1)

    assert dispatcher.landed(1, 0.2) is None
    assert dispatcher.landed(99, 0.2) is None


def test_losing_an_unknown_replica_loses_nothing() -> None:
    assert Dispatcher().lose(7, 0.0) == Loss()


def test_what_was_in_flight_of_a_dropped_pool_has_nowhere_to_be_tried_again() -> None:
    dispatcher, tickets = in_flight()
    assert dispatcher.drop_pool("p") == []

    assert dispatcher.lose(1, 0.1).dropped == tuple(tickets)


def test_what_was_in_flight_of_a_dropped_pool_still_lands() -> None:
    dispatcher, tickets = in_flight()
    dispatcher.drop_pool("p")

    batch = dispatcher.landed(1, 0.1)

    assert batch is not None
    assert batch.tickets == tickets


def test_a_batch_that_does_not_come_back_is_overdue() -> None:
    """30 s while no cost is known; then a second, or ten times the p95 where that is longer."""
    dispatcher, _ = in_flight()
    assert dispatcher.plan(0.0).wake_at == 30.0
    assert dispatcher.overdue(29.9) == []
    assert dispatcher.overdue(30.0) == [1]
    assert dispatcher.overdue(31.0) == [1]

    dispatcher.landed(1, 31.0)
    assert dispatcher.overdue(31.0) == []
    for _ in range(100):
        dispatcher.teach("p", "m", b"", [(1, 0.010), (4, 0.300)])
    now = 100.0
    for rows, limit_s in [(1, 1.0), (4, 3.0)]:
        for _ in range(rows):
            dispatcher.offer("p", "m", b"", Ticket(b"", 1, now + 60.0, now), now)
        plan = dispatcher.plan(now)

        assert plan.wake_at == pytest.approx(now + limit_s, rel=0.01)
        assert dispatcher.overdue(plan.wake_at - 0.001) == []
        assert dispatcher.overdue(plan.wake_at) == [1]
        assert dispatcher.plan(plan.wake_at).wake_at > plan.wake_at
        now = plan.wake_at + 1.0
        dispatcher.landed(plan.batches[0].number, now)


def test_a_batch_behind_another_is_not_overdue_before_it_could_begin() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m", max_rows=1, gather_s=0.0),), in_flight=2))
    dispatcher.teach("p", "m", b"", [(1, 0.010)] * 4)
    dispatcher.join(1, "p", 0.0)
    for _ in range(2):
        dispatcher.offer("p", "m", b"", Ticket(b"", 1, 60.0, 0.0), 0.0)
    first, second = dispatcher.plan(0.0).batches

    dispatcher.landed(first.number, 0.9)

    assert dispatcher.overdue(1.5) == []
    assert dispatcher.overdue(1.9) == [1]
    assert dispatcher.landed(second.number, 1.95) is second


def test_a_short_batch_behind_a_long_one_does_not_make_its_replica_overdue() -> None:
    dispatcher = Dispatcher()
    models = (ModelSpec(name="long", max_rows=1), ModelSpec(name="short", max_rows=1))
    dispatcher.add_pool(PoolSpec(name="p", models=models, in_flight=2))
    for name, seconds in [("long", 0.500), ("short", 0.010)]:
        dispatcher.teach("p", name, b"", [(1, seconds)] * 4)
    dispatcher.join(1, "p", 0.0)
    for name in ("long", "short"):
        dispatcher.offer("p", name, b"", Ticket(b"", 1, 60.0, 0.0), 0.0)
        assert [batch.model for batch in dispatcher.plan(0.0).batches] == [name]

    assert dispatcher.overdue(4.9) == []
    assert dispatcher.overdue(5.0) == [1]
