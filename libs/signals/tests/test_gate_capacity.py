"""The search for a capacity, on a server that is a formula: which rates are tried, and what is said in the end."""

from collections.abc import Callable

import pytest

from slipway_signals.gate.capacity import Capacity, Search, Step, capacity_of, judge_step, next_rate
from slipway_signals.gate.capacity_page import render_capacity
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.records import Counts, Generator, Window

SEARCH = Search(threshold_s=0.05, lowest=10.0, highest=10_000.0, precision=0.05)
CAPACITY = 777.0


def window(
    latency_s: float, *, failed: int = 0, sent: int = 1_000, warm: bool = False, cpu: float = 0.3, slip_us: int = 100
) -> Window:
    counts = Counts(
        sent=sent, succeeded=sent - failed, failed={"http_503": failed} if failed else {},
        latency_us=Histogram.of([round(latency_s * 1e6)] * (sent - failed)),
    )  # fmt: skip
    generator = Generator(offered=sent, cpu_share=cpu, slip_us=Histogram.of([slip_us] * sent))
    return Window(index=0, begin_s=0.0, end_s=1.0, is_warm_up=warm, arms={"stable": counts}, generator=generator)


def queue(rate: float) -> list[Window]:
    """A single server queue (M/M/1): its p99 is 4.6 mean times, which grow without end towards its capacity."""
    if rate >= CAPACITY:
        return [window(2.0, failed=200)]
    return [window(9.0, warm=True), window(4.605 / (CAPACITY - rate))]


def search(answer: Callable[[float], list[Window]], wanted: Search = SEARCH) -> Capacity:
    steps: list[Step] = []
    while (rate := next_rate(wanted, steps)) is not None:
        assert len(steps) < 60
        steps.append(judge_step(wanted, rate, answer(rate)))
    return capacity_of(wanted, steps)


def test_the_highest_rate_that_keeps_the_promise_is_found_within_its_precision() -> None:
    true = CAPACITY - 4.605 / 0.05  # where p99 is 50 ms

    found = search(queue)

    assert found.rate is not None
    assert true / 1.05 <= found.rate <= true
    assert all(step.held for step in found.steps if step.rate <= true)
    assert found.knee is not None
    assert 0.4 * true < found.knee <= found.rate
    assert len(found.steps) < 20
    assert "broke twice" in found.ended


def test_one_bad_second_is_not_the_limit() -> None:
    bad: set[float] = set()

    def noisy(rate: float) -> list[Window]:
        if rate not in bad:
            bad.add(rate)
            return [window(0.2)]
        return queue(rate)

    found = search(noisy)

    assert found.rate is not None
    assert found.rate > 600


def test_nothing_held_and_everything_held_are_said() -> None:
    nothing = search(lambda _: [window(1.0)])
    everything = search(lambda _: [window(0.001)])

    assert (nothing.rate, nothing.ended) == (None, "not even 10 requests a second held")
    assert everything.rate == 10_000
    assert "the highest that was allowed" in everything.ended


@pytest.mark.parametrize(
    "limits", [{"cpu": 0.99}, {"slip_us": 30_000}], ids=["it had no processor left", "it sent too late"]
)
def test_a_generator_that_cannot_keep_up_ends_the_search_and_is_named(limits: dict[str, float]) -> None:
    def tired(rate: float) -> list[Window]:
        return queue(rate) if rate < 300 else [window(0.2, **limits)]  # type: ignore[arg-type]  # one of the two

    found = search(tired)

    assert found.rate == 160
    assert "the generator could not keep up" in found.ended
    assert found.steps[-1].is_generator


def test_failures_and_drops_break_a_rate_however_fast_the_others_were() -> None:
    step = judge_step(SEARCH, 100.0, [window(0.001, failed=10)])
    nobody = judge_step(SEARCH, 100.0, [window(0.001, failed=1_000)])

    assert not step.held
    assert step.why == "1.00% failed, expected at most 0.10%"
    assert nobody.p99_s is None
    assert not nobody.held


def test_the_page_shows_the_limit_the_promise_and_every_try() -> None:
    found = search(queue)

    page = render_capacity(found, "http://127.0.0.1:8000/<b>")

    assert f"<h1>{found.rate:,.0f} requests a second</h1>" in page
    assert "promised: 50 ms" in page
    assert page.count("<tr>") == len(found.steps) + 1
    assert "&lt;b&gt;" in page
    assert "nan" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")  # nothing from elsewhere


def test_a_page_of_nothing_is_a_page() -> None:
    page = render_capacity(search(lambda _: [window(0.001, failed=1_000)]), "here")

    assert "No rate held" in page
    assert "Too few rates" in page
