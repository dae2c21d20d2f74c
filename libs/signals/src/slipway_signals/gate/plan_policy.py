"""The least that evidence must have asked of its candidate, so that its pass counts where rollouts ask.

A plan travels in the evidence, and whoever runs a gate writes it: a pass by wide margins is a pass. This says which
plans are strict enough. It judges no candidate and opens nothing. The invariants: margins are compared as they were
judged, wherever they came from (a default, `slo.yaml`, the plan); what a policy does not name is asked for as a plan
does by default.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.errors import ConfigError
from slipway_bundle.keys import unknown_keys
from slipway_signals.gate.plan import Limits, check_margin, named, unit_of

if TYPE_CHECKING:
    from slipway_signals.gate.evidence import Evidence

__all__ = ["PlanPolicy", "Terms", "decode_policy", "shortfalls", "terms_of"]

DIGITS: Final = 1e-6
"""Relative; margins that follow from `slo.yaml` are products of floats."""

Identity = Literal["required", "off"]


class Terms(Struct, frozen=True, kw_only=True):
    """What a run asked of its candidate. Stored with the verdict: fields are only ever added, with defaults."""

    margins: dict[str, float]
    """Metric → margin, of those that had to be shown to be no worse; as judged."""

    without: tuple[str, ...]
    """What the plan left out, or made a guard; names may end in `*`."""

    requests: int
    """Sent and judged, of the arm with fewer."""

    alpha: float
    identity: Identity
    is_same: bool
    limits: Limits


class PlanPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least to ask for; a name may end in `*`, the longest that fits counts."""

    required: tuple[str, ...] = ()
    """Metrics that must have been judged; each has to fit one at least."""

    margins: dict[str, Annotated[float, Meta(gt=0)]] = {}
    """Metric → the widest margin, as in a gate.toml: shares (0.001), ratios (1.2)."""

    without: tuple[str, ...] = ()
    """Metrics that a plan may leave out."""

    at_least: Annotated[int, Meta(ge=1)] = 300
    """Requests of each arm."""

    alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    """The largest probability of a false pass for a metric."""

    identity: Identity = "required"
    """`off`: servers need not say which bundle answers."""

    is_same: bool = False
    """Whether both arms may be the same bundle, for a rollout that changes settings only."""

    limits: Limits = Limits()
    """How unsound a measurement may be, at most."""

    def __post_init__(self) -> None:
        for metric, margin in self.margins.items():
            check_margin(metric, margin, f"`margins.{metric}`")
        for metric in (*self.required, *self.without):
            unit_of(metric)


def decode_policy(data: bytes, where: str) -> PlanPolicy:
    """A policy from a TOML file.

    Args:
        data: Its bytes.
        where: How messages call it.

    Raises:
        ConfigError: It is not TOML, has an unknown key, or a value that cannot be followed.
    """
    try:
        raw = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where} is not TOML: {error}", path=where) from error
    for unknown in unknown_keys(raw, PlanPolicy):
        raise ConfigError(f"{where} has an unknown key `{unknown.path}`", hint=unknown.hint, path=where)
    try:
        return msgspec.convert(raw, PlanPolicy)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} cannot be followed: {error}", path=where) from error


def terms_of(evidence: "Evidence") -> Terms:
    """What was asked, of evidence that was recomputed."""
    plan = evidence.plan
    weakened = [metric for metric, wanted in plan.margins.items() if wanted.role == "guard"]
    return Terms(
        margins={one.metric: one.margin for one in evidence.criteria if one.role == "must"},
        without=(*plan.without, *weakened),
        requests=min(evidence.decision.requests.values(), default=0),
        alpha=plan.alpha,
        identity=plan.identity,
        is_same=plan.is_same,
        limits=plan.limits,
    )


def shortfalls(terms: Terms, policy: PlanPolicy) -> list[str]:
    """In which places less was asked than the policy wants, in words; empty: nowhere."""
    return [*_metrics(terms, policy), *_measurement(terms, policy)]


def _metrics(terms: Terms, policy: PlanPolicy) -> Iterator[str]:
    for wanted in policy.required:
        if not any(_fits(metric, wanted) for metric in terms.margins):
            yield f"{wanted} was not judged"
    allowed = dict.fromkeys(policy.without)
    for metric in terms.without:
        if named(metric, allowed) is None:
            yield f"{metric} was left out, which is not allowed"
    for metric, margin in terms.margins.items():
        key = named(metric, policy.margins)
        if key is not None and _is_above(margin, policy.margins[key]):
            yield f"the margin of {metric} is {margin:.6g}, expected at most {policy.margins[key]:.6g}"


def _measurement(terms: Terms, policy: PlanPolicy) -> Iterator[str]:
    if terms.requests < policy.at_least:
        yield f"{terms.requests} requests of each arm were judged, expected at least {policy.at_least}"
    if _is_above(terms.alpha, policy.alpha):
        yield f"alpha is {terms.alpha:g}, expected at most {policy.alpha:g}"
    if terms.identity == "off" and policy.identity == "required":
        yield "answers did not have to say which bundle they come from"
    if terms.is_same and not policy.is_same:
        yield "both arms were meant to be the same bundle, a trial of the gate itself"
    given: Mapping[str, float] = msgspec.structs.asdict(terms.limits)
    for name, most in msgspec.structs.asdict(policy.limits).items():
        # Of all limits, this one is the stricter the larger it is.
        is_wider = _is_above(most, given[name]) if name == "ratio_p" else _is_above(given[name], most)
        if is_wider:
            side = "at least" if name == "ratio_p" else "at most"
            yield f"the limit {name} is {given[name]:g}, expected {side} {most:g}"


def _fits(metric: str, wanted: str) -> bool:
    return named(metric, {wanted: None}) is not None


def _is_above(value: float, most: float) -> bool:
    return value > most and not math.isclose(value, most, rel_tol=DIGITS)
