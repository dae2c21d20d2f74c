"""A failed batch is bisected, but never for so long that the runner would be taken for hanging."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from runtime_runner_child import group

from slipway_runtime.batch_compute import ISOLATION_CALLS, BatchCompute
from slipway_runtime.wire.frames import Done, Work
from slipway_runtime.wire.slab import Slab


class SlowModel:
    """Each call takes `cost_s` of a clock of its own; rows "poison" fail."""

    name = "slow"

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s
        self.now = 0.0
        self.calls = 0

    def clock(self) -> float:
        return self.now

    def compute(self, key: bytes, payloads: Sequence[bytes | memoryview], rows: int) -> object:
        self.calls += 1
        self.now += self.cost_s
        if b"poison" in payloads:
            raise ValueError("bad row")
        return list(payloads)

    def encode(self, result: object, start: int, stop: int) -> bytes:
        assert isinstance(result, list)
        return b",".join(result[start:stop])


def computed(model: SlowModel, *groups: Sequence[bytes]) -> Done:
    slab = Slab(1 << 16)
    compute = BatchCompute({model.name: model}, slab, model.clock)
    done = compute.run(Work(1, model.name, b"", [group(*rows) for rows in groups]), {})
    slab.close()
    return done


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"poison"]), min_size=1, max_size=8), min_size=1, max_size=3))
def test_every_ticket_is_answered_once_with_its_own_row(groups: list[list[bytes]]) -> None:
    rows = [row for one in groups for row in one]

    done = computed(SlowModel(0.0), *groups)

    told = {failure.ticket: b"poison" for failure in done.failures}
    for part in done.parts:
        assert isinstance(part.result, bytes)
        told.update(zip(part.tickets, part.result.split(b","), strict=True))
    assert len(told) == len(done.failures) + sum(len(part.tickets) for part in done.parts)
    assert [told[number] for number in range(len(rows))] == rows
    if not done.failures:
        assert len(done.parts) == len(groups)


def test_a_slow_model_is_asked_for_a_bounded_time() -> None:
    """64 tickets, one bad: 12 calls of 1 s would look like a hang of a model with a p95 of 1 s."""
    model = SlowModel(1.0)

    done = computed(model, [b"good"] * 63 + [b"poison"])

    assert model.now <= 7.0
    failed = {failure.ticket for failure in done.failures}
    assert 63 in failed
    assert len(failed) + sum(len(part.tickets) for part in done.parts) == 64
    assert len(failed) < 32, "what was told apart until then is answered"
    assert done.compute_s == model.now


def test_a_quick_model_is_asked_a_bounded_number_of_times() -> None:
    model = SlowModel(0.0)

    computed(model, [b"poison"] * 200)

    assert model.calls == ISOLATION_CALLS + 1
