"""The queues of a pool: one for each key, bounded together, made on demand, and what a pool's limits must be."""

import msgspec
import pytest

from slipway_runtime import RowsExceeded
from slipway_runtime.admission import Refusal
from slipway_runtime.dispatch import Dispatcher, ModelSpec, PoolSpec
from slipway_runtime.request import Ticket


def dispatcher(**limits: object) -> Dispatcher:
    made = Dispatcher()
    made.add_pool(pool(**limits))
    made.join(1, "p", 0.0)
    return made


def pool(**limits: object) -> PoolSpec:
    return PoolSpec(name="p", models=(msgspec.convert({"name": "m", "gather_s": 0.0, **limits}, ModelSpec),))


def offer(core: Dispatcher, key: bytes = b"", rows: int = 1, now: float = 0.0) -> Refusal | None:
    return core.offer("p", "m", key, Ticket(b"", rows, now + 10.0, now), now)


def keys_known(core: Dispatcher) -> set[bytes]:
    return {line.key for line in core.statistics().pools[0].models[0].lines}


def answer_everything(core: Dispatcher, now: float = 0.0) -> None:
    while batches := core.plan(now).batches:
        for batch in batches:
            core.landed(batch.number, now)


def test_rows_of_different_keys_never_share_a_batch() -> None:
    core = dispatcher()
    for key in (b"a", b"b", b"a", b"b"):
        offer(core, key)

    first = core.plan(0.0).batches
    core.landed(1, 0.001)
    second = core.plan(0.001).batches

    assert [(batch.key, batch.rows) for batch in (*first, *second)] == [(b"a", 2), (b"b", 2)]


def test_the_room_of_a_model_is_shared_by_its_keys() -> None:
    core = dispatcher(max_rows=4, max_queued_rows=10)
    assert [offer(core, b"%d" % key, rows=3) for key in range(3)] == [None, None, None]

    refusal = offer(core, b"other", rows=2)

    assert refusal is not None
    assert refusal.reason == "queue_full"
    assert refusal.retry_after_s > 0
    assert offer(core, b"other", rows=1) is None


def test_the_key_used_least_lately_gives_way_to_the_257th() -> None:
    core = dispatcher()
    keys = [b"%d" % key for key in range(256)]
    for key in keys:
        offer(core, key)
    answer_everything(core)
    offer(core, keys[0])
    answer_everything(core)

    offer(core, b"new")

    assert keys_known(core) == {*keys, b"new"} - {keys[1]}


def test_a_new_key_is_refused_while_256_others_are_in_use() -> None:
    core = dispatcher()
    for key in range(256):
        assert offer(core, b"%d" % key) is None

    refusal = offer(core, b"new")

    assert refusal is not None
    assert refusal.reason == "queue_full"
    answer_everything(core)
    assert offer(core, b"new") is None


def test_a_new_key_is_believed_to_cost_what_the_last_one_cost_at_worst() -> None:
    """A request that could not follow a batch of the known key in time cannot follow one of the new key either."""
    core = dispatcher()
    core.teach("p", "m", b"known", [(1, 0.100), (1, 0.100), (64, 0.400), (64, 0.400)])
    offer(core, b"new", rows=64)
    core.plan(0.0)

    refusals = [core.offer("p", "m", b"new", Ticket(b"", 1, deadline, 0.0), 0.0) for deadline in (0.45, 1.0)]

    assert refusals[0] is not None
    assert refusals[0].retry_after_s == pytest.approx(0.4)
    assert refusals[1] is None


def test_a_warm_up_of_a_pool_or_model_that_is_not_known_is_ignored() -> None:
    core = dispatcher()

    core.teach("p", "other", b"", [(1, 0.1)])
    core.teach("other", "m", b"", [(1, 0.1)])

    assert keys_known(core) == set()


def test_a_ticket_larger_than_a_batch_is_not_kept() -> None:
    core = dispatcher(max_rows=4)

    for rows in (0, 5):
        with pytest.raises(RowsExceeded):
            offer(core, rows=rows)

    assert core.plan(0.0).batches == ()


def test_a_model_that_the_pool_does_not_have_is_refused() -> None:
    assert dispatcher().offer("p", "other", b"", Ticket(b"", 1, 1.0, 0.0), 0.0) == Refusal("draining", 0.0)


def test_new_limits_hold_once_nothing_waits() -> None:
    core = dispatcher(max_rows=8)
    offer(core, rows=8)

    core.add_pool(pool(max_rows=2, max_queued_rows=4))
    offered_before = core.plan(0.0).batches[0].rows
    core.landed(1, 0.001)

    assert offered_before == 8
    with pytest.raises(RowsExceeded):
        offer(core, rows=3, now=0.001)
    assert [offer(core, rows=2, now=0.001) for _ in range(2)] == [None, None]
    assert [batch.rows for batch in core.plan(0.001).batches] == [2]


def test_a_pool_can_move_to_another_device_while_requests_wait() -> None:
    core = Dispatcher()
    model = ModelSpec(name="m", max_rows=1)
    core.add_pool(PoolSpec(name="p", models=(model,), device="a", device_concurrency=1, replicas=2))
    for number in (1, 2):
        core.join(number, "p", 0.0)
    for _ in range(3):
        offer(core)
    assert len(core.plan(0.0).batches) == 1

    core.add_pool(PoolSpec(name="p", models=(model,), device="b", device_concurrency=2, replicas=2))

    assert len(core.plan(0.0).batches) == 1
    core.landed(1, 0.001)
    assert len(core.plan(0.001).batches) == 1


def test_what_waits_expires_in_time_after_its_pool_moved_to_another_device() -> None:
    core = Dispatcher()
    core.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m"),), device="a"))
    offer(core)

    core.add_pool(PoolSpec(name="p", models=(ModelSpec(name="m"),), device="b"))

    assert core.plan(0.0).wake_at == 10.0
    assert len(core.plan(10.0).expired) == 1


def test_a_device_still_counts_the_batches_of_a_pool_that_was_dropped() -> None:
    core = Dispatcher()
    spec = PoolSpec(name="p", models=(ModelSpec(name="m"),), device="gpu", device_concurrency=1)
    core.add_pool(spec)
    core.join(1, "p", 0.0)
    offer(core)
    assert len(core.plan(0.0).batches) == 1
    core.drop_pool("p")

    core.add_pool(spec)
    core.join(2, "p", 0.0)
    offer(core)

    assert core.plan(0.0).batches == ()
    core.landed(1, 0.001)
    assert len(core.plan(0.001).batches) == 1


def test_the_smallest_limit_that_a_pool_names_holds_for_its_device() -> None:
    core = Dispatcher()
    for number, (name, concurrency) in enumerate([("a", 0), ("b", 3), ("c", 2)]):
        core.add_pool(
            PoolSpec(name=name, models=(ModelSpec(name="m"),), replicas=2, device="gpu", device_concurrency=concurrency)
        )
        core.join(2 * number, name, 0.0)
        core.join(2 * number + 1, name, 0.0)
        for key in (b"1", b"2"):
            core.offer(name, "m", key, Ticket(b"", 1, 10.0, 0.0), 0.0)

    assert len(core.plan(0.0).batches) == 2
    core.drop_pool("c")
    assert len(core.plan(0.0).batches) == 1


def test_a_wait_for_company_ends_when_an_urgent_request_comes() -> None:
    core = dispatcher(gather_s=0.050)
    core.teach("p", "m", b"", [(1, 0.050), (1, 0.050), (64, 0.060), (64, 0.060)])
    now = 0.0
    for _ in range(4):  # 32 clients that come back together, 1 ms after each other
        for _ in range(32):
            now += 0.001
            offer(core, now=now)
        for batch in core.plan(now).batches:
            now += 0.050
            core.landed(batch.number, now)
    now += 0.001
    offer(core, now=now)
    assert core.plan(now).batches == ()

    urgent = Ticket(b"", 1, now + 0.0515, now)
    core.offer("p", "m", b"", urgent, now)

    (batch,) = core.plan(now).batches
    assert urgent in batch.tickets


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": []},
        {"models": [{"name": "m"}, {"name": "m"}]},
        {"models": [{"name": "m", "max_rows": 0}]},
        {"models": [{"name": "m", "max_rows": 9, "max_queued_rows": 8}]},
        {"models": [{"name": "m", "gather_s": -1.0}]},
        {"models": [{"name": "m", "weight": 0.0}]},
        {"replicas": 0},
        {"in_flight": 0},
        {"device_concurrency": -1},
        {"hang_s": 0.0},
    ],
)
def test_a_pool_that_could_serve_nothing_is_refused_where_it_arrives(wrong: dict[str, object]) -> None:
    wire = msgspec.msgpack.encode({"name": "p", "models": [{"name": "m"}], **wrong})

    with pytest.raises(msgspec.ValidationError, match=r"got|needs"):
        msgspec.msgpack.decode(wire, type=PoolSpec)


def test_a_newer_peer_may_say_more_about_a_pool() -> None:
    wire = msgspec.msgpack.encode({"name": "p", "models": [{"name": "m", "later": 1}], "later": 2})

    assert msgspec.msgpack.decode(wire, type=PoolSpec) == PoolSpec(name="p", models=(ModelSpec(name="m"),))
