"""What a load run is told: whom to ask, what, how often, for how long, and where to stop.

It sends nothing and opens nothing. The invariants: a `LoadPlan` can be followed as it stands (a shape has a positive
rate, the warm-up is shorter than the run, each scenario has payloads); no key or token is in it, only the name of the
environment variable that holds one. The `gate` writes one for each run and keeps it in the evidence; a person may write
one as TOML. `slipway_loadtests` follows it.
"""

import math
import tomllib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.errors import ConfigError
from slipway_bundle.keys import unknown_keys

__all__ = [
    "ARMS",
    "Caps",
    "Diurnal",
    "Kind",
    "LoadPlan",
    "Payloads",
    "Protocol",
    "Ramp",
    "Replay",
    "Scenario",
    "Shape",
    "Soak",
    "Spike",
    "Steady",
    "Step",
    "Target",
    "decode_plan",
    "encode_plan",
]

ARMS: Final = ("stable", "candidate")
ArmName = Literal["stable", "candidate"]
Kind = Literal["valid", "boundary", "invalid", "recorded"]
"""Of a payload: `valid` from inside the schema, `boundary` on its edges, `invalid` outside of it (right is a status
4xx), `recorded` as it was sent once (a file, or what was captured)."""
Protocol = Literal["http", "v2", "grpc"]
"""`http` is JSON to the service's own path; `v2` and `grpc` are the Open Inference Protocol."""

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Url = Annotated[str, Meta(pattern=r"^(https?|grpcs?)://[^\s/]+")]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One arm: a server that is asked."""

    url: Url
    """`http://HOST:PORT`, without a path; `grpc://HOST:PORT` where the protocol is grpc."""
    admin: Url | None = None
    """The server's admin port, `http://HOST:8002`, for its CPU, queue and cost; None: they stay unknown."""
    key_env: EnvName | None = None
    """Environment variable with the API key or token to send as `Authorization: Bearer`; None: none is sent."""


class Payloads(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where inputs come from."""

    source: Literal["schema", "file", "capture"] = "schema"
    """`schema`: made from the OpenAPI document of the stable arm. `file`: JSON lines, each a body, or
    `{"input": …, "output": …}` as in `golden.jsonl` (the output is then the right answer). `capture`: a folder of
    `[runtime.capture]`."""
    path: str | None = None
    """Of the file or folder."""
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_000
    """Different inputs at most; used again, in the same order, when all were sent."""

    def __post_init__(self) -> None:
        if (self.path is None) != (self.source == "schema"):
            expected = "no `path`: they are made" if self.source == "schema" else "the `path` to read"
            raise ValueError(f"`source` is {self.source!r} and `path` is {self.path!r}, expected {expected}")


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that callers do, and how often beside the others."""

    path: Annotated[str, Meta(pattern=r"^/")] = "/predict"
    """Of the endpoint; `POST`ed to. With v2 and grpc the model is named by `model`."""
    model: str | None = None
    """Name of the model in the Open Inference Protocol."""
    weight: Positive = 1.0
    payloads: Payloads = Payloads()
    mix: dict[Kind, Share] = {}
    """Kind → share of the inputs; empty: all `valid` when they are made, all `recorded` when they are read."""

    def __post_init__(self) -> None:
        if self.mix and not math.isclose(sum(self.mix.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares of `mix` add up to {sum(self.mix.values()):g}, expected 1")
        if ("recorded" in self.mix) and self.payloads.source == "schema":
            raise ValueError("`mix` asks for recorded inputs and `source` is 'schema', expected 'file' or 'capture'")

    @property
    def shares(self) -> dict[Kind, float]:
        """Kind → share of the inputs, with the default filled in."""
        return dict(self.mix) or {"valid" if self.payloads.source == "schema" else "recorded": 1.0}


class Steady(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="steady"):
    """The same rate all the time."""


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="step"):
    """Equal steps up to the plan's rate, each equally long."""

    first: Positive
    """Requests a second of the first step."""
    steps: Annotated[int, Meta(ge=2, le=1_000)] = 5


class Ramp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ramp"):
    """A straight line from `first` to the plan's rate."""

    first: Annotated[float, Meta(ge=0)] = 0.0


class Spike(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="spike"):
    """The plan's rate, and for a while `factor` times as much."""

    at_s: Annotated[float, Meta(ge=0)]
    for_s: Positive
    factor: Annotated[float, Meta(gt=1, le=1_000)] = 5.0


class Soak(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="soak"):
    """Up to the plan's rate in `rise_s`, then the same for as long as the run lasts: hours, to find what leaks."""

    rise_s: Positive = 60.0


class Diurnal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="diurnal"):
    """A day: a sine of `swing` around the plan's rate, lowest at the start."""

    swing: Share = 0.8
    period_s: Positive | None = None
    """Length of a day; None: the whole run is one."""


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="replay"):
    """Arrivals as they were recorded; the plan's `rate` is the highest that is allowed, `arrivals` is not asked."""

    path: str
    """A file with one arrival a line: seconds, ascending; the first is moved to 0. `#` begins a comment."""
    speed: Positive = 1.0
    """2 = in half the time."""


Shape = Steady | Step | Ramp | Spike | Soak | Diurnal | Replay


class Caps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where load stops so that it cannot hurt stable: the run ends, and says why."""

    rate: Positive = 10_000.0
    """Requests a second to one arm at most; a plan above it is refused."""
    stable_failed: Share = 0.05
    """Failed share of the requests to stable in `over_s` above which the run ends; 1 = never."""
    over_s: Positive = 5.0
    at_least: Annotated[int, Meta(ge=1)] = 20
    """Failed requests in `over_s`, below which nothing ends."""


class LoadPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One load run. Every input goes to each arm that is named; in random order when there are two."""

    arms: Annotated[dict[ArmName, Target], Meta(min_length=1)]
    protocol: Protocol = "http"
    scenarios: Annotated[tuple[Scenario, ...], Meta(min_length=1)] = (Scenario(),)
    arrivals: Literal["poisson", "constant"] = "poisson"
    shape: Shape = Steady()
    rate: Positive = 100.0
    """Inputs a second, so requests a second to each arm; what a shape's factors (spike, diurnal) refer to."""
    seconds: Positive = 60.0
    """Warm-up included; answers are waited for after it, `timeout_s` at most."""
    warm_up_s: Annotated[float, Meta(ge=0)] = 5.0
    window_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 5.0
    """From the moment a request was due."""
    max_in_flight: Annotated[int, Meta(ge=1, le=50_000)] = 512
    """Inputs under way at once, over all workers; beyond it, what is due is dropped and counted."""
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 1
    """Of the arrivals, the inputs and the order of the arms: the same plan asks the same."""
    tolerances: dict[str, Annotated[float, Meta(ge=0)]] = {}
    """Field of the answer → how far two numbers of the arms may be apart and still agree; 0 for other fields."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processes that send; one offers about 3,000 requests a second."""
    think_s: tuple[Annotated[float, Meta(ge=0)], Annotated[float, Meta(ge=0)]] = (0.0, 0.0)
    """Shortest and longest pause of a user between two requests; of closed loops alone, open ones have no users."""
    caps: Caps = Caps()

    def __post_init__(self) -> None:
        if self.warm_up_s >= self.seconds:
            raise ValueError(f"`warm_up_s` is {self.warm_up_s:g} and `seconds` {self.seconds:g}, expected it shorter")
        highest = self.rate * (self.shape.factor if isinstance(self.shape, Spike) else 1.0)
        highest *= 1.0 + self.shape.swing if isinstance(self.shape, Diurnal) else 1.0
        if highest > self.caps.rate:
            raise ValueError(
                f"`rate` reaches {highest:g} requests a second, expected at most {self.caps.rate:g} (`caps.rate`)"
            )
        if isinstance(self.shape, Step | Ramp) and self.shape.first > self.rate:
            raise ValueError(f"`shape.first` is {self.shape.first:g}, expected at most `rate`, {self.rate:g}")
        if isinstance(self.shape, Spike) and self.shape.at_s + self.shape.for_s > self.seconds:
            raise ValueError(f"the spike ends after the run: `seconds` is {self.seconds:g}")
        if self.protocol != "http":
            nameless = [scenario.path for scenario in self.scenarios if scenario.model is None]
            if nameless:
                raise ValueError(f"`protocol` is {self.protocol!r} and the scenario {nameless[0]!r} has no `model`")
            if any("invalid" in scenario.mix for scenario in self.scenarios):
                raise ValueError("`mix` asks for invalid inputs, which are made for `protocol` 'http' alone")
        if self.protocol == "grpc" and any(scenario.payloads.source == "schema" for scenario in self.scenarios):
            raise ValueError("`source` is 'schema', which an OpenAPI document has and gRPC has not; expected a file")
        for arm, target in self.arms.items():
            if target.url.startswith("grpc") != (self.protocol == "grpc"):
                raise ValueError(f"`arms.{arm}.url` is {target.url!r}, which does not fit `protocol` {self.protocol!r}")


def decode_plan(data: bytes, where: str = "the load plan") -> LoadPlan:
    """Reads a plan: JSON when it begins with `{`, TOML otherwise.

    Raises:
        ConfigError: neither of them, an unknown key, or a value that cannot be followed; the message names the field.
    """
    try:
        raw = msgspec.json.decode(data) if data.lstrip()[:1] == b"{" else tomllib.loads(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where} is neither JSON nor TOML: {error}", path=where) from error
    plain = {key: value for key, value in raw.items() if key != "shape"} if isinstance(raw, dict) else raw
    for unknown in unknown_keys(plain, LoadPlan):  # not tagged unions: msgspec names their keys
        raise ConfigError(f"{where} has an unknown key `{unknown.path}`", hint=unknown.hint, path=where)
    try:
        return msgspec.convert(raw, LoadPlan)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} cannot be followed: {error}", path=where) from error


def encode_plan(plan: LoadPlan) -> bytes:
    """The plan as JSON, all fields present; `decode_plan` gives an equal plan."""
    return msgspec.json.encode(plan)
