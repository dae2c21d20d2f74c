"""What a plan may say, and what follows where it says nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from gate_windows import PROMISES, gate_plan, load_plan
from msgspec.structs import replace

from slipway_bundle.errors import ConfigError
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.load_plan import Target
from slipway_signals.gate.margins import Fields, Promises, criteria_of, promises_of
from slipway_signals.gate.plan import GatePlan, make_plan, named, parse_plan
from slipway_signals.gate.preflight import CannotConcludeError, foresee, refuse
from slipway_signals.gate.verdict import Criterion
from slipway_signals.slo.openslo import load_slos

SERVICES = Path(__file__).parents[3] / "services"


def criteria(plan: GatePlan, promises: Promises | None, warm_up: Histogram | None = None) -> dict[str, Criterion]:
    """Metric -> criterion."""
    fields = Fields(
        latency_us=warm_up or Histogram(), outputs=("score",), disagreement=("score",), resources=("cpu", "queue")
    )
    return {one.metric: one for one in criteria_of(plan, promises, fields)}


def test_margins_are_fractions_of_what_slo_yaml_promises() -> None:
    """Half of the error budget, half of what may be slow, and both say so."""
    promises = promises_of(load_slos(SERVICES / "churn/slo.yaml"), "sha256:0", ["/predict"])
    found = criteria(gate_plan(), promises)

    assert (promises.error_budget, promises.latency_threshold_s, promises.latency_budget) == (0.001, 0.05, 0.01)
    assert found["errors"].margin == pytest.approx(0.0005)
    assert found["slow"].margin == pytest.approx(0.005)
    assert {found[name].origin for name in ("errors", "slow")} == {"slo"}
    assert "slo.yaml" in found["errors"].reason


def test_objectives_about_other_endpoints_promise_nothing_here() -> None:
    """`/render` of documents has no objective of latency."""
    slos = load_slos(SERVICES / "documents/slo.yaml")

    assert promises_of(slos, "", ["/render"]).latency_threshold_s is None
    assert promises_of(slos, "", ["/infer"]).latency_threshold_s == 5.0
    assert promises_of(slos, "", ["/render"]).error_budget == 0.001


@pytest.mark.parametrize(("stable_ms", "margin"), [(1, 1.1), (50, 1.1), (70, 1.0 + 5 / 70), (100, 1.05), (400, 1.05)])
def test_latency_may_rise_by_a_part_of_the_threshold_within_bounds(stable_ms: int, margin: float) -> None:
    """A tenth of 50 ms; never more than a tenth of stable's, never less than a twentieth."""
    warm_up = Histogram.of([stable_ms * 1000] * 100)

    found = criteria(gate_plan(), PROMISES, warm_up)["latency.p95"]

    assert found.margin == pytest.approx(margin, rel=1e-3)


def test_without_objectives_there_are_defaults_and_nothing_is_slow() -> None:
    """Each with its reason."""
    found = criteria(gate_plan(), None)

    assert "slow" not in found
    assert (found["errors"].margin, found["errors"].origin) == (0.005, "default")
    assert all(one.reason for one in found.values())
    assert found["queue"].role == "guard"


def test_what_a_split_or_a_shadow_cannot_show_is_not_asked_of_it() -> None:
    """No pairs in a split; no schedule in either."""
    assert "disagreement.score" not in criteria(gate_plan(source="split"), None)
    assert "disagreement.score" in criteria(gate_plan(source="shadow"), None)
    assert "throughput" not in criteria(gate_plan(source="shadow"), None)


def test_a_metric_is_left_out_with_a_reason() -> None:
    """Or all that begin alike."""
    plan = gate_plan(without={"latency.*": "a batch job", "cpu": "shared machine"})

    found = criteria(plan, PROMISES)

    assert not [name for name in found if name.startswith("latency")]
    assert "cpu" not in found
    assert "errors" in found


def test_the_longest_name_that_fits_is_meant() -> None:
    """An exact one before all."""
    table = {"*": 1, "outputs.*": 2, "outputs.score": 3}

    assert named("outputs.score", table) == "outputs.score"
    assert named("outputs.risk", table) == "outputs.*"
    assert named("cpu", table) == "*"
    assert named("cpu", {"outputs.*": 1}) is None


WRONG = {
    "a margin without its reason": ('[margins."latency.p95"]\nmargin = 1.5', "reason"),
    "an unknown key": ("alfa = 0.1", "alfa"),
    "an unknown key of a table": ("[lines]\nerror = 0.1", "lines.error"),
    "a level that is none": ("alpha = 0.9", r"alpha"),
    "a ratio that is a share": ('[margins.cpu]\nmargin = 0.2\nreason = "x"', "margins.cpu.margin"),
    "a share that is a ratio": ('[margins.errors]\nmargin = 1.2\nreason = "x"', "margins.errors.margin"),
    "a metric that is none": ('[margins.latencies]\nreason = "x"', "latencies"),
    "an empty reason": ('[without]\ncpu = ""', "without"),
    "a load that cannot be followed": ("[load]\nrate = 1.0", "arms"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_plan_that_cannot_be_followed_is_refused_by_name(what: str) -> None:
    """The message names the key."""
    text, message = WRONG[what]

    with pytest.raises(ConfigError, match=message):
        make_plan(parse_plan(text.encode()))


def test_an_unknown_key_suggests_the_nearest() -> None:
    """As everywhere."""
    with pytest.raises(ConfigError) as refused:
        make_plan({"alfa": 0.1})

    assert refused.value.hint == "did you mean `alpha`?"


def test_text_that_is_no_toml_is_refused() -> None:
    """With what the parser says."""
    with pytest.raises(ConfigError, match="not TOML"):
        parse_plan(b"alpha = ")


SHORT = load_plan(rate=50.0, seconds=30.0)


def test_a_plan_that_cannot_conclude_is_refused_and_told_what_would_do() -> None:
    """A length or a rate, each by itself; no margin makes blocks of five seconds come faster."""
    foreseen = foresee(gate_plan(load=SHORT), PROMISES)

    assert not foreseen.can_conclude
    assert foreseen.check.status == "failed"
    with pytest.raises(CannotConcludeError, match=r"latency\.p99 takes about") as refused:
        refuse(foreseen)
    assert refused.value.exit_status == 2
    assert [word in (refused.value.hint or "") for word in ("seconds", "rate", "margin")] == [True, True, False]


CURES: dict[str, Callable[[GatePlan], GatePlan]] = {
    "`seconds`": lambda plan: replace(plan, load=replace(SHORT, seconds=_advised(plan, "`seconds` = "))),
    "`rate`": lambda plan: replace(plan, load=replace(SHORT, rate=_advised(plan, "`rate` = "))),
}


@pytest.mark.parametrize("cure", CURES)
def test_what_the_advice_says_would_do_does(cure: str) -> None:
    """It is a plan that can conclude."""
    plan = gate_plan(load=SHORT, without={"throughput": "blocks need time"})

    assert foresee(CURES[cure](plan), PROMISES).can_conclude


def test_the_margins_that_the_advice_names_do() -> None:
    """All of them together."""
    plan = gate_plan(load=SHORT, without={"throughput": "blocks need time"})
    words = foresee(plan, PROMISES).advice[-1].partition(": ")[2]
    margins = {}
    for word in words.split(", "):
        metric, margin, *_ = word.split()
        margins[metric] = {"margin": float(margin), "reason": "the preflight says so"}
    wider = make_plan({"margins": margins, "without": dict(plan.without)})

    assert foresee(replace(wider, load=SHORT), PROMISES).can_conclude


def test_cpu_is_foreseen_where_both_admin_ports_are_known() -> None:
    """It takes blocks, however many requests are in them."""
    arms = {arm: Target(url="http://127.0.0.1:1", admin="http://127.0.0.1:2") for arm in SHORT.arms}

    foreseen = foresee(gate_plan(load=replace(SHORT, arms=arms)), PROMISES)

    assert "cpu" in [one.metric for one in foreseen.forecasts]


def _advised(plan: GatePlan, begin: str) -> float:
    advice = next(one for one in foresee(plan, PROMISES).advice if one.startswith(begin))
    return float(advice.removeprefix(begin).split()[0])
