"""Objectives as the compiler sees them: no YAML, no PromQL text, nothing optional that a rule needs.

It decides nothing. The invariant: what `openslo` hands on has been checked against the metrics that exist, so the
compiler trusts it. The window, the target and the thresholds are exact (seconds, Decimal).
"""

from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct

from slipway_signals.slo.selectors import Selector

__all__ = [
    "DAYS",
    "Business",
    "Category",
    "Counters",
    "DeployWindow",
    "Gauge",
    "Indicator",
    "Raw",
    "ServiceSlos",
    "Severity",
    "Slices",
    "Slo",
]

Category = Literal["availability", "latency", "freshness", "drift", "quality"]
Severity = Literal["page", "ticket"]
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Counters(Struct, frozen=True, kw_only=True, tag="counters"):
    """Good or bad events out of all events, each a counter."""

    total: Selector
    part: Selector
    """The good ones, or the bad ones."""

    counts: Literal["good", "bad"]
    """What `part` counts."""

    threshold_s: float | None = None
    """Of a latency objective: the bucket bound in `part`, seconds."""


class Raw(Struct, frozen=True, kw_only=True, tag="raw"):
    """A query that gives the share of good or of bad, 0 to 1, at each evaluation; the escape hatch."""

    query: str
    counts: Literal["good", "bad"]


class Gauge(Struct, frozen=True, kw_only=True, tag="gauge"):
    """A value that is good while it stays on one side of a limit; judged at each evaluation."""

    selector: Selector
    operator: Literal["<=", "<", ">=", ">"]
    """Good while value `operator` limit; the worst series counts."""

    limit: Decimal


Indicator = Counters | Raw | Gauge


class Slices(Struct, frozen=True, kw_only=True):
    """The budget counts bad slices of time, not bad events."""

    window_s: int
    target: Decimal
    """Share of good events that makes a slice good."""


class DeployWindow(Struct, frozen=True, kw_only=True):
    """A time of the week in which this service is released; only alerts of objectives sound then. UTC."""

    days: str
    """As Alertmanager writes it: `tuesday` or `monday:thursday`."""

    start: str
    """`09:00`"""

    end: str
    """`10:30`, `24:00`; before the start when the window crosses midnight: each of `days` is that of the start."""


class Business(Struct, frozen=True, kw_only=True):
    """The number that a service is for."""

    title: str
    """What is counted, over which time: `customers scored an hour`."""

    query: str
    """PromQL of one number."""


class Slo(Struct, frozen=True, kw_only=True):
    """One objective over one indicator."""

    name: str
    service: str
    title: str
    owner: str
    category: Category
    severity: Severity
    """What a fast burn is: `page`, or `ticket` for what no user feels."""

    target: Decimal
    """Share of good, 0 < target < 1."""

    window_s: int
    indicator: Indicator
    slices: Slices | None = None
    is_guarded: bool = True
    """Whether few events must prove themselves by the Poisson bound."""

    source: str
    """file:line of the objective."""

    @property
    def budget(self) -> Decimal:
        """Share of bad that the target leaves."""
        return 1 - self.target


class ServiceSlos(Struct, frozen=True, kw_only=True):
    """All objectives of a service, in the order of its file."""

    service: str
    owner: str
    slos: tuple[Slo, ...]
    deploy_windows: tuple[DeployWindow, ...] = ()
    retraining: str | None = None
    """Where Alertmanager tells of drift, for `slipway drift hook`; None: nowhere."""

    business: Business | None = None

    thresholds_s: tuple[float, ...] = ()
    """Every latency threshold of the request histogram, ascending: what must be a bucket bound."""
