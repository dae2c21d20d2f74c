"""What the gate is told: whom it compares, how much worse is too much, how sure it must be, and when it gives up.

It judges nothing and opens nothing. The invariants: a number that a person puts in the place of a default brings its
reason along, and the reason is kept in the evidence; a plan that was decoded can be followed as it stands.
"""

import tomllib
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.errors import ConfigError
from slipway_bundle.keys import unknown_keys
from slipway_signals.gate.load_plan import LoadPlan
from slipway_signals.gate.records import Arm
from slipway_signals.gate.verdict import Role

__all__ = [
    "Fractions",
    "GatePlan",
    "Limits",
    "Lines",
    "Override",
    "Source",
    "check_margin",
    "make_plan",
    "named",
    "parse_plan",
    "unit_of",
]

RATIOS: Final = frozenset({"latency", "throughput", "cpu", "queue", "gpu", "cost"})
SHARES: Final = frozenset({"errors", "slow", "malformed", "wrong", "outputs", "labels", "disagreement"})
"""Metrics by what their margin is; `latency.p95` and `outputs.FIELD` by what is before the dot."""

SUFFIX: Final = "*"

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Level = Annotated[float, Meta(gt=0, lt=0.5)]
Sentence = Annotated[str, Meta(min_length=1, max_length=500)]
Source = Literal["load", "shadow", "split"]
"""`load`: each input to both arms, in random order. `shadow`: to stable, and a copy to the candidate. `split`: each
request to one arm."""


class Override(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants of one metric instead of the default."""

    reason: Sentence
    """Why; it is kept in the evidence."""

    margin: Positive | None = None
    """Shares: how much larger the candidate's may be (0.001). Ratios: how many times as much (1.2). None: the
    default."""

    role: Role | None = None


class Fractions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How margins follow from `slo.yaml`."""

    error_budget: Share = 0.5
    """Of the share of bad requests that an objective allows: how much a candidate may add."""

    latency_threshold: Share = 0.1
    """Of the latency threshold: how much a quantile may rise."""

    latency_most: Positive = 0.1
    """Of stable's quantile: it may not rise more, however far the threshold is."""

    latency_least: Positive = 0.05
    """Of stable's quantile: it is not asked for less, however near the threshold is; below it a run takes hours."""

    def __post_init__(self) -> None:
        if self.latency_least > self.latency_most:
            raise ValueError(f"`latency_least` is {self.latency_least:g}, expected at most `latency_most`")


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the measurement itself must be, or nothing passes."""

    slip_p99_s: Positive = 0.01
    """Sent later than intended, 99 of 100 requests at most by so much …"""

    slip_share: Positive = 0.5
    """… or by this share of stable's p95, whichever is more: who asks slowly of a slow service does no harm."""

    cpu_share: Share = 0.95
    """Of one core, of the busiest worker of the generator, in the middle window."""

    dropped_share: Share = 0.001
    sockets_share: Share = 0.9
    """Of the sockets that the generator may open."""

    clock_offset_s: Positive = 0.05
    """Between the generator's workers."""

    skew_s: Positive = 5.0
    """Between a server's clock and ours."""

    wait_share: Positive = 0.05
    """Of stable's median latency: by how much more one arm's requests may have waited for a processor."""

    ratio_p: Level = 0.001
    """Of the sample ratio: how improbable a mismatch must be, over the whole run, to be one."""


class Lines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run ends at once: absolute shares of the candidate's requests, whatever stable does."""

    errors: Share | None = None
    """Failed; None: what the objective allows, 0.01 without one."""

    slow: Share | None = None
    """Slower than the latency threshold; None: what the objective allows; without one, no line."""

    malformed: Share = 0.001
    p_false: Level = 0.01
    """How probable a stop may be, over a whole run, for each line that is not crossed."""

    windows: Annotated[int, Meta(ge=1)] = 3
    """Bad requests in so many of the last 30 windows: one stall is no breach."""

    at_least: Annotated[int, Meta(ge=1)] = 5
    """Bad requests in those windows: two errors are no breach."""


class GatePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison."""

    load: LoadPlan | None = None
    """What is sent; None where windows come from elsewhere."""

    source: Source = "load"
    candidate_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """Of the requests of a split: what the candidate should get."""

    alpha: Level = 0.05
    """How probable a false pass may be for a metric that is worse by its margin; and a false fail, over all metrics and
    looks."""

    quantiles: Annotated[tuple[Annotated[float, Meta(gt=0, lt=1)], ...], Meta(min_length=1)] = (0.5, 0.95, 0.99)
    margins: dict[str, Override] = {}
    """Metric → what is wanted instead of the default; a name may end in `.*`."""

    without: dict[str, Sentence] = {}
    """Metric → why it is not judged; a name may end in `.*`."""

    required: tuple[str, ...] = ()
    """Metrics that must be there (`cpu`, `cost`, `outputs.score`, …); those of requests always must."""

    fractions: Fractions = Fractions()
    lines: Lines = Lines()
    limits: Limits = Limits()
    at_least: Annotated[int, Meta(ge=1)] = 300
    """Requests of each arm, before which nothing passes."""

    at_least_s: Annotated[float, Meta(ge=0)] = 10.0
    """Judged seconds, before which nothing passes."""

    stops_on_pass: bool = True
    """Whether the run ends as soon as it has passed."""

    block_s: Positive = 5.0
    """CPU, queue, cost and throughput are compared in blocks of this length."""

    identity: Literal["required", "off"] = "required"
    """Whether an answer must say which bundle it comes from; `off` for servers that cannot."""

    digests: dict[Arm, str] = {}
    """Who should answer; an arm that is not named may be any one bundle."""

    is_same: bool = False
    """Whether both arms are meant to be the same bundle: a trial of the gate itself (A/A)."""

    def __post_init__(self) -> None:
        for metric, wanted in self.margins.items():
            unit_of(metric)
            if wanted.margin is not None:
                check_margin(metric, wanted.margin, f"`margins.{metric}.margin`")
        for metric in (*self.without, *self.required):
            unit_of(metric)


def make_plan(raw: Mapping[str, object], where: str = "the gate plan") -> GatePlan:
    """A plan from what was parsed, with what flags add.

    Raises:
        ConfigError: An unknown key, or a value that cannot be followed; the message names the field.
    """
    shaped = {key: _plain(value) if key == "load" else value for key, value in raw.items()}
    for unknown in unknown_keys(shaped, GatePlan):
        raise ConfigError(f"{where} has an unknown key `{unknown.path}`", hint=unknown.hint, path=where)
    try:
        return msgspec.convert(dict(raw), GatePlan)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} cannot be followed: {error}", path=where) from error


def parse_plan(data: bytes, where: str = "the gate plan") -> dict[str, object]:
    """The tables of a `gate.toml`, for `make_plan`.

    Raises:
        ConfigError: It is not TOML.
    """
    try:
        return tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where} is not TOML: {error}", path=where) from error


def _plain(load: object) -> object:
    """Without `shape`, a union that the search for unknown keys cannot see into; msgspec names its keys."""
    return {key: value for key, value in load.items() if key != "shape"} if isinstance(load, dict) else load


def unit_of(metric: str) -> Literal["ratio", "share"]:
    """What the margin of a metric is. Raises ValueError: no metric has this name."""
    group = metric.partition(".")[0]
    if group in RATIOS:
        return "ratio"
    if group in SHARES:
        return "share"
    raise ValueError(f"there is no metric {metric!r}, expected one of {', '.join(sorted({*RATIOS, *SHARES}))}")


def check_margin(metric: str, margin: float, where: str) -> None:
    """Raises ValueError: it is no margin of this metric, or no metric has this name."""
    is_ratio = unit_of(metric) == "ratio"
    if not (1.0 < margin <= 100.0 if is_ratio else margin < 1.0):
        expected = "more than 1: how many times as much" if is_ratio else "less than 1: a share"
        raise ValueError(f"{where} is {margin:g}, expected {expected}")


def named(metric: str, table: Mapping[str, object]) -> str | None:
    """The key of `table` that means `metric`: its name, or the longest `prefix*` of it."""
    if metric in table:
        return metric
    prefixes = [key for key in table if key.endswith(SUFFIX) and metric.startswith(key[:-1])]
    return max(prefixes, key=len, default=None)
