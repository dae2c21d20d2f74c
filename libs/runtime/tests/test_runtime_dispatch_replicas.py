"""Replicas that come, go and share the work: throughput, standby, draining, what is in flight, cold starts."""

import math

import pytest
from runtime_dispatch_simulation import Replicas, closed_loop, open_loop

from slipway_runtime.admission import Refusal
from slipway_runtime.dispatch import Dispatcher, ModelSpec, PoolSpec
from slipway_runtime.request import Ticket

STACK_S = 40e-6


def accelerator(rows: int) -> float:
    """5 ms + 0.1 ms a row: the model of the table in `docs/batching.md`."""
    return 0.005 + 0.0001 * rows


def spec(replicas: int = 1, in_flight: int = 1, max_rows: int = 64, gather_s: float = 0.010) -> PoolSpec:
    model = ModelSpec(name="m", max_rows=max_rows, gather_s=gather_s)
    return PoolSpec(name="p", models=(model,), replicas=replicas, in_flight=in_flight)


def running(replicas: int, in_flight: int = 1) -> Replicas:
    made = Replicas()
    made.pool(spec(replicas, in_flight), accelerator, replicas=replicas)
    return made


def optimum(clients: int, replicas: int) -> float:
    """Answers per second when the clients are dealt evenly and every group comes back together."""
    group = clients / replicas
    if group > 64:
        return replicas * 64 / accelerator(64)
    return clients / (accelerator(round(group)) + group * STACK_S)


def offer(dispatcher: Dispatcher, count: int, now: float, timeout_s: float = 10.0) -> list[Ticket]:
    tickets = [Ticket(b"", 1, now + timeout_s, now) for _ in range(count)]
    for ticket in tickets:
        assert dispatcher.offer("p", "m", b"", ticket, now) is None
    return tickets


@pytest.mark.parametrize("clients", [1, 16, 64, 256])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_a_closed_loop_reaches_the_optimum(clients: int, replicas: int) -> None:
    pool = running(replicas)
    closed_loop(pool, "p", "m", clients, stack_s=STACK_S)

    pool.run(3.0)

    assert pool.rate("m", 1.0, 3.0) >= 0.95 * optimum(clients, min(clients, replicas))


def test_one_client_is_never_delayed() -> None:
    pool = running(2)
    closed_loop(pool, "p", "m", 1, stack_s=STACK_S)

    pool.run(2.0)

    assert max(pool.waited["m"]) == 0.0


def test_two_replicas_carry_twice_the_load_of_one() -> None:
    rates = []
    for replicas in (1, 2):
        pool = running(replicas)
        open_loop(pool, "p", "m", 3 * 64 / accelerator(64), 0.250)
        pool.run(3.0)
        rates.append(pool.rate("m", 1.0, 3.0))

    assert rates[1] == pytest.approx(2 * rates[0], rel=0.02)
    assert rates[0] >= 0.95 * 64 / accelerator(64)


@pytest.mark.parametrize("replicas", [1, 3])
def test_what_is_admitted_in_an_overload_is_answered_in_time(replicas: int) -> None:
    pool = running(replicas)
    open_loop(pool, "p", "m", 3 * replicas * 64 / accelerator(64), 0.100)

    pool.run(2.0)

    ended = list(pool.ended.values())
    assert ended.count("answered") >= 0.97 * len(ended)


def test_one_large_request_is_not_divided_among_replicas() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(replicas=2))
    dispatcher.join(1, "p", 0.0)
    dispatcher.join(2, "p", 0.0)
    dispatcher.offer("p", "m", b"", Ticket(b"", 8, 10.0, 0.0), 0.0)

    assert [batch.rows for batch in dispatcher.plan(0.0).batches] == [8]


def test_work_goes_to_the_replica_with_the_least_then_to_the_one_free_longest() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(replicas=3, in_flight=2, max_rows=1, gather_s=0.0))
    for number, now in [(1, 0.2), (2, 0.1), (3, 0.3)]:
        dispatcher.join(number, "p", now)
    offer(dispatcher, 4, 1.0)

    batches = dispatcher.plan(1.0).batches

    assert [batch.replica for batch in batches] == [2, 1, 3, 2]


def test_a_replica_that_is_busy_gets_full_batches_only() -> None:
    """What would wait at the replica can still grow here."""
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(in_flight=2, max_rows=4, gather_s=0.0))
    dispatcher.join(1, "p", 0.0)
    offer(dispatcher, 7, 0.0)
    assert [batch.rows for batch in dispatcher.plan(0.0).batches] == [4]

    offer(dispatcher, 1, 0.0)

    assert [batch.rows for batch in dispatcher.plan(0.0).batches] == [4]
    assert dispatcher.in_flight(1) == 2


def test_a_second_batch_in_flight_does_not_look_twice_as_expensive() -> None:
    """What is learned is the time that a batch had the replica to itself."""
    pool = running(1, in_flight=2)
    closed_loop(pool, "p", "m", 512, stack_s=STACK_S)

    pool.run(2.0)

    (line,) = pool.dispatcher.statistics().pools[0].models[0].lines
    assert line.costs[-1].p50_s == pytest.approx(accelerator(64), rel=0.01)


def test_a_standby_takes_the_place_of_a_lost_replica() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec())
    assert dispatcher.join(1, "p", 0.0)
    assert not dispatcher.join(2, "p", 0.0)
    assert not dispatcher.join(3, "p", 0.0)

    assert dispatcher.lose(1, 1.0).promoted == 2

    offer(dispatcher, 1, 1.0)
    assert [batch.replica for batch in dispatcher.plan(1.0).batches] == [2]
    assert dispatcher.lose(3, 2.0).promoted is None


def test_a_standby_takes_the_place_of_a_replica_that_retires_and_finishes_its_batch() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec())
    dispatcher.join(1, "p", 0.0)
    dispatcher.join(2, "p", 0.0)
    offer(dispatcher, 1, 0.0)
    (first,) = dispatcher.plan(0.0).batches

    dispatcher.retire(1, 0.001)
    offer(dispatcher, 1, 0.002)
    (second,) = dispatcher.plan(0.002).batches

    assert (first.replica, second.replica) == (1, 2)
    assert dispatcher.in_flight(1) == 1
    assert dispatcher.landed(first.number, 0.003) is first
    assert dispatcher.in_flight(1) == 0
    assert dispatcher.lose(1, 0.004).promoted is None
    (pool,) = dispatcher.statistics().pools
    assert (pool.active, pool.standby, pool.leaving) == (1, 0, 0)


def test_a_pool_grows_and_shrinks_with_its_specification() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(replicas=1))
    for number in (1, 2, 3):
        dispatcher.join(number, "p", 0.0)

    counts = []
    for replicas in (3, 2, 2, 1):
        dispatcher.add_pool(spec(replicas=replicas))
        (pool,) = dispatcher.statistics().pools
        counts.append((pool.active, pool.standby))

    assert counts == [(3, 0), (2, 1), (2, 1), (1, 2)]


def test_without_a_replica_requests_wait_while_there_is_room_and_are_counted_as_cold() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m", max_rows=4, max_queued_rows=10),)))
    tickets = offer(dispatcher, 10, 0.0, timeout_s=2.0)

    full = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 2.0, 0.0), 0.0)
    late = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 0.0, 0.0), 0.0)

    assert full is not None
    assert full.reason == "queue_full"
    assert late is not None
    assert dispatcher.plan(0.0).wake_at == 2.0
    dispatcher.join(1, "p", 1.0)
    assert [batch.tickets for batch in dispatcher.plan(1.0).batches] == [tickets[:4]]
    (model,) = dispatcher.statistics().pools[0].models
    assert (model.cold, model.refused) == (10, {"queue_full": 2})


def test_admission_believes_in_the_replicas_that_are_there() -> None:
    """The same backlog and the same time: enough with four replicas, too little when three of them have left."""
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(replicas=4))
    dispatcher.teach("p", "m", b"", [(size, accelerator(size)) for size in (1, 8, 64) for _ in range(4)])
    for number in (1, 2, 3, 4):
        dispatcher.join(number, "p", 0.0)
    offer(dispatcher, 4 * 64, 0.0, timeout_s=0.080)
    assert len(dispatcher.plan(0.0).batches) == 4
    offer(dispatcher, 640, 0.0, timeout_s=0.080)

    admitted = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 0.080, 0.0), 0.0)
    for number in (2, 3, 4):
        dispatcher.retire(number, 0.0)
    refused = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 0.080, 0.0), 0.0)

    assert admitted is None
    assert refused is not None
    assert refused.reason == "deadline"
    assert refused.retry_after_s >= 10 * accelerator(64)


def test_a_request_behind_a_batch_in_flight_needs_time_for_both() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(gather_s=0.0))
    dispatcher.teach("p", "m", b"", [(size, accelerator(size)) for size in (1, 8, 64) for _ in range(4)])
    dispatcher.join(1, "p", 0.0)
    offer(dispatcher, 64, 0.0)
    dispatcher.plan(0.0)

    too_short = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 1.2 * accelerator(64), 0.0), 0.0)
    enough = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 2.2 * accelerator(64), 0.0), 0.0)

    assert too_short is not None
    assert too_short.reason == "deadline"
    assert enough is None


def test_a_request_behind_two_batches_of_one_replica_needs_time_for_all_three() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(in_flight=2, gather_s=0.0))
    dispatcher.teach("p", "m", b"", [(size, accelerator(size)) for size in (1, 8, 64) for _ in range(4)])
    dispatcher.join(1, "p", 0.0)
    offer(dispatcher, 128, 0.0)
    assert len(dispatcher.plan(0.0).batches) == 2

    too_short = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 2.2 * accelerator(64), 0.0), 0.0)
    enough = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 3.2 * accelerator(64), 0.0), 0.0)

    assert too_short is not None
    assert enough is None


def test_one_hanging_replica_of_two_does_not_close_the_door() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(replicas=2, gather_s=0.0))
    dispatcher.teach("p", "m", b"", [(size, accelerator(size)) for size in (1, 8, 64) for _ in range(4)])
    dispatcher.join(1, "p", 0.0)
    dispatcher.join(2, "p", 0.0)
    offer(dispatcher, 1, 0.0)
    dispatcher.plan(0.0)
    for turn in range(1, 50):
        now = 0.010 * turn
        offer(dispatcher, 3, now, timeout_s=0.030)
        (batch,) = dispatcher.plan(now).batches
        assert batch.replica == 2
        dispatcher.landed(batch.number, now + accelerator(3))


def test_replicas_that_all_hang_close_the_door_by_degrees() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec(replicas=2, max_rows=1, gather_s=0.0))
    dispatcher.teach("p", "m", b"", [(1, 0.005)] * 4)
    dispatcher.join(1, "p", 0.0)
    dispatcher.join(2, "p", 0.0)
    offer(dispatcher, 2, 0.0)
    assert len(dispatcher.plan(0.0).batches) == 2

    impatient = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 0.5 + 0.1, 0.5), 0.5)
    patient = dispatcher.offer("p", "m", b"", Ticket(b"", 1, 0.5 + 1.0, 0.5), 0.5)

    assert impatient is not None
    assert patient is None


def test_nothing_to_do_means_nothing_to_wake_for() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec())
    dispatcher.join(1, "p", 0.0)
    (ticket,) = offer(dispatcher, 1, 0.0)
    (batch,) = dispatcher.plan(0.0).batches
    dispatcher.landed(batch.number, 0.005)

    assert dispatcher.plan(0.006).wake_at == math.inf
    assert not dispatcher.cancel(ticket)


def test_what_waits_in_a_dropped_pool_comes_back_and_later_requests_are_told_that_it_drains() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_pool(spec())
    tickets = offer(dispatcher, 3, 0.0)

    assert dispatcher.drop_pool("p") == tickets
    assert dispatcher.drop_pool("p") == []
    assert dispatcher.offer("p", "m", b"", Ticket(b"", 1, 1.0, 0.0), 0.0) == Refusal("draining", 0.0)
    with pytest.raises(ValueError, match="bug in slipway"):
        dispatcher.join(1, "p", 0.0)
