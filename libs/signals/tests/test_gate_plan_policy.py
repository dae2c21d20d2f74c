"""Which plans are strict enough that their pass counts."""

import msgspec
import pytest
from gate_evidence import evidence_of
from gate_windows import DIGESTS, Arms, gate_plan
from msgspec.structs import replace

from slipway_bundle.errors import ConfigError
from slipway_signals.gate.plan import Limits, Override
from slipway_signals.gate.plan_policy import PlanPolicy, Terms, decode_policy, shortfalls, terms_of

GIVEN = {"errors": 0.005, "latency.p95": 1.1, "latency.p99": 1.1, "outputs.score": 0.05}
TERMS = Terms(
    margins=GIVEN,
    without=(),
    requests=2_000,
    alpha=0.05,
    identity="required",
    is_same=False,
    limits=Limits(),
)
STRICT = PlanPolicy(
    required=("errors", "latency.p99", "outputs.*"),
    margins={"errors": 0.005, "latency.*": 1.1, "latency.p99": 1.2, "outputs.*": 0.05},
    without=("throughput",),
    at_least=1_000,
)


def test_a_plan_with_the_defaults_is_strict_enough_for_the_default_policy() -> None:
    assert shortfalls(TERMS, PlanPolicy()) == []
    assert shortfalls(TERMS, STRICT) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"margins": TERMS.margins | {"latency.p95": 1.11}},
            ["the margin of latency.p95 is 1.11, expected at most 1.1"],
        ),
        ({"margins": TERMS.margins | {"latency.p99": 1.19}}, []),
        ({"margins": TERMS.margins | {"latency.p99": 1.1 + 0.1 + 1e-12}}, []),
        (
            {"margins": {"errors": 0.005, "latency.p95": 1.1}},
            ["latency.p99 was not judged", "outputs.* was not judged"],
        ),
        ({"without": ("throughput",)}, []),
        ({"without": ("throughput", "cpu")}, ["cpu was left out, which is not allowed"]),
        ({"without": ("latency.*",)}, ["latency.* was left out, which is not allowed"]),
        ({"requests": 999}, ["999 requests of each arm were judged, expected at least 1000"]),
        ({"alpha": 0.2}, ["alpha is 0.2, expected at most 0.05"]),
        ({"identity": "off"}, ["answers did not have to say which bundle they come from"]),
        ({"is_same": True}, ["both arms were meant to be the same bundle, a trial of the gate itself"]),
        ({"limits": Limits(slip_p99_s=0.5)}, ["the limit slip_p99_s is 0.5, expected at most 0.01"]),
        ({"limits": Limits(ratio_p=1e-9)}, ["the limit ratio_p is 1e-09, expected at least 0.001"]),
        ({"limits": Limits(ratio_p=0.1, slip_p99_s=0.001)}, []),
    ],
)
def test_what_asks_for_less_is_named(changed: dict[str, object], said: list[str]) -> None:
    assert shortfalls(replace(TERMS, **changed), STRICT) == said


def test_terms_are_what_was_judged_and_not_what_was_written() -> None:
    """A margin that follows from fractions of the objective counts like one that was set; a guard was not asked for."""
    plan = gate_plan(
        digests=dict(DIGESTS),
        quantiles=(0.5, 0.95),
        margins={
            "latency.p50": Override(reason="r", margin=1.5),
            "outputs.score": Override(reason="r", role="guard"),
        },
        without={"throughput": "a shared machine"},
        alpha=0.1,
    )
    evidence = evidence_of(Arms(1).windows(30), plan)

    terms = terms_of(evidence)

    assert terms.margins["latency.p50"] == 1.5
    assert terms.margins["errors"] == 0.005
    assert "outputs.score" not in terms.margins
    assert terms.without == ("throughput", "outputs.score")
    assert (terms.alpha, terms.requests) == (0.1, min(evidence.decision.requests.values()))
    assert terms.requests > 1_000
    assert msgspec.json.decode(msgspec.json.encode(terms), type=Terms) == terms


def test_a_policy_is_read_from_toml() -> None:
    policy = decode_policy(b'required = ["errors"]\nat_least = 9\n[margins]\n"latency.*" = 1.2\n', "policy.toml")

    assert policy == PlanPolicy(required=("errors",), at_least=9, margins={"latency.*": 1.2})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("requird = []", r"policy\.toml has an unknown key `requird`(?s:.*)required"),
        ('required = ["latencies"]', r"there is no metric 'latencies'"),
        ("[margins]\nlatency = 0.9", r"`margins\.latency` is 0\.9, expected more than 1"),
        ("[margins]\nerrors = 1.5", r"`margins\.errors` is 1\.5, expected less than 1"),
        ("alpha = 0.6", r"policy\.toml cannot be followed"),
        ("[limits]\nslip = 1", r"unknown key `limits\.slip`"),
        ("=", "is not TOML"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_with_its_field(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        decode_policy(text.encode(), "policy.toml")
