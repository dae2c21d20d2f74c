"""`split.toml`: which arms there are, who goes where, what is copied, counted and tried.

Words only. The invariants: a key that is not known is an error; what is left out is the cautious choice: nobody may
choose an arm, no request is sent twice, nothing is written, weights stay as they are.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from slipway_bundle import ConfigError
from slipway_bundle.keys import unknown_keys
from slipway_serve.config import LimitsConfig
from slipway_serve.split.assignment import STABLE
from slipway_serve.split.thompson import ThompsonConfig

__all__ = [
    "CANDIDATE",
    "ArmConfig",
    "OverrideConfig",
    "Paths",
    "ShadowConfig",
    "SplitConfig",
    "SplitServer",
    "StickyConfig",
    "WindowsConfig",
    "load_split",
]

CANDIDATE: Final = "candidate"
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
ARMS_LIMIT: Final = 16
"""They are labels of metrics."""

Url = Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+/?$")]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=3_600)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")]


class ArmConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[arms.NAME]`: a server, or an address behind which there are several alike."""

    url: Url
    """`http://HOST:PORT` or `https://…`, without a path."""
    weight: Weight = 0.0
    """Share of the requests, beside the other arms' weights; 0: gets none but by the override, or as shadow."""
    admin: Url | None = None
    """Its admin port, asked once a window for CPU, queue and cost; None: they stay unknown."""
    ca: str | None = None
    """PEM file of the CA of an `https` arm; None: those that the system trusts."""


class StickyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sticky]`: what of a request decides its arm. Exactly one of the three; a request without it is drawn."""

    header: HeaderName | None = None
    cookie: str | None = None
    field: str | None = None
    """Of the JSON object in the body: the key of the row."""
    salt: str = ""
    """Change it and everybody is assigned anew; another salt for another experiment."""

    def __post_init__(self) -> None:
        given = [name for name in ("header", "cookie", "field") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"`sticky` has {', '.join(given) or 'none'}, expected one of header, cookie, field")


class OverrideConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[override]`: trusted callers name the arm themselves."""

    keys: str
    """File of API keys, as `slipway access key new` writes it; read again when it changes."""
    scope: str = "split:override"
    """A key must have it."""
    header: HeaderName = "X-Slipway-Arm"


class ShadowConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[shadow]`: what stable answered is asked of another arm too; nobody gets that answer."""

    arm: str = CANDIDATE
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the requests that stable answers, drawn."""
    in_flight: Annotated[int, Meta(ge=1, le=1_024)] = 16
    """Copies under way at once."""
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Copies that wait; beyond it they are dropped and counted."""
    queue_mb: Annotated[int, Meta(ge=1, le=65_536)] = 64
    """Bytes of what waits."""
    timeout_s: Seconds = 5.0
    """From the moment the copy was due."""
    is_synthetic: bool = True
    """Mark copies with `X-Slipway-Synthetic`: no user waits for them."""


class WindowsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[windows]`: what the gate judges, one JSON line for each stretch of time."""

    file: str
    """Appended to; moved to `FILE.1` when it is full, and when arms or weights change."""
    seconds: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    warm_up_s: Annotated[float, Meta(ge=0, le=3_600)] = 10.0
    """Windows that begin earlier are kept and judged by nobody."""
    max_mb: Annotated[int, Meta(ge=1, le=100_000)] = 256
    tolerances: dict[str, Annotated[float, Meta(ge=0)]] = {}
    """Field of the answer → how far two numbers may be apart and still agree; 0 for other fields."""


class SplitServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: where it listens, and how it ends. Changes need a restart."""

    host: str = "127.0.0.1"
    port: Port = 8000
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8002
    drain_s: Annotated[float, Meta(ge=0)] = 1.0
    """How long it still takes requests after SIGTERM, answering them with `Connection: close`."""
    stop_s: Annotated[float, Meta(ge=0)] = 30.0
    """How long it may then take to finish what it accepted."""
    trust_synthetic: bool = False
    """Hand `X-Slipway-Synthetic` on and leave such requests out of windows and shares; else it is taken off."""
    tls_cert: str | None = None
    """PEM file; read again when it changes. None: no TLS."""
    tls_key: str | None = None


class Paths(tuple[str, ...]):
    """Paths, each exact or, when it ends with `*`, the beginning of others."""

    __slots__ = ()

    def has(self, path: str) -> bool:
        """Whether one of them stands for `path`. O(paths)."""
        return any(path == one or (one.endswith("*") and path.startswith(one[:-1])) for one in self)


class SplitConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    arms: Annotated[dict[str, ArmConfig], Meta(min_length=1, max_length=ARMS_LIMIT)]
    """One of them is `stable`: it stands in for an arm that cannot be reached, and is what others are judged by."""
    server: SplitServer = SplitServer()
    limits: LimitsConfig = LimitsConfig()
    timeout_s: Seconds = 30.0
    """In which an arm must begin to answer, and between two pieces of an answer."""
    connect_s: Seconds = 1.0
    connections: Annotated[int, Meta(ge=1, le=20_000)] = 512
    """Requests in flight to one arm; beyond it they are refused with 503."""
    repeatable: tuple[str, ...] = ()
    """Paths whose requests may be sent twice, as predictions may: these are copied to a shadow, and asked again when a
    connection breaks. `/v2/*` stands for all that begin so. Requests with an `Idempotency-Key` never are."""
    judged: tuple[str, ...] = ("/*",)
    """Paths that windows and shares count; only `POST`."""
    tells_arm: bool = True
    """Answers carry `X-Slipway-Arm`."""
    sticky: StickyConfig | None = None
    override: OverrideConfig | None = None
    shadow: ShadowConfig | None = None
    windows: WindowsConfig | None = None
    thompson: ThompsonConfig | None = None

    def __post_init__(self) -> None:
        for name in self.arms:
            if not NAME.fullmatch(name):
                raise ValueError(f"`arms.{name}` cannot name an arm, expected lower-case letters, digits, `-` and `_`")
        if STABLE not in self.arms:
            raise ValueError(f"`arms` has {', '.join(self.arms)}, expected `{STABLE}` among them")
        if not any(arm.weight for arm in self.arms.values()):
            raise ValueError("all arms have the weight 0, expected one above it")
        for path in (*self.repeatable, *self.judged):
            if not path.startswith("/") or "*" in path[:-1]:
                raise ValueError(f'{path!r} is no path, expected one like "/predict", or "/v2/*" for all that begin so')
        if self.shadow is not None:
            self._check_shadow(self.shadow)
        if self.windows is not None and CANDIDATE not in self.arms:
            raise ValueError(f"`windows` compares `{STABLE}` with `{CANDIDATE}`, and `arms` has {', '.join(self.arms)}")
        if self.thompson is not None:
            weighty = sum(arm.weight > 0 for arm in self.arms.values())
            if weighty < 2 or weighty * self.thompson.least > 1:
                raise ValueError(
                    f"`thompson.least` is {self.thompson.least:g} for {weighty} arms with a weight above 0"
                )
            if self.thompson.most < self.thompson.least:
                raise ValueError(f"`thompson.most` is {self.thompson.most:g}, expected {self.thompson.least:g} or more")

    def _check_shadow(self, shadow: ShadowConfig) -> None:
        if shadow.arm not in self.arms or shadow.arm == STABLE:
            others = ", ".join(name for name in self.arms if name != STABLE) or "none"
            raise ValueError(f"`shadow.arm` is {shadow.arm!r}, expected one of the arms beside stable: {others}")
        if self.arms[shadow.arm].weight:
            raise ValueError(f"`arms.{shadow.arm}.weight` is above 0: the arm would be asked and copied to at once")
        if not self.repeatable:
            raise ValueError('`repeatable` is empty, expected the paths that may be copied, such as "/predict"')

    @property
    def weights(self) -> dict[str, float]:
        """Arm → weight, in the order of the file."""
        return {name: arm.weight for name, arm in self.arms.items()}


def load_split(path: Path) -> SplitConfig:
    """Read and check the file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds an unknown key or a value that cannot be followed.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror or error}", path=str(path)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"`{path}` is not TOML: {error}", path=str(path)) from error
    for unknown in unknown_keys(raw, SplitConfig):
        raise ConfigError(f"`{path}` has an unknown key `{unknown.path}`", hint=unknown.hint, path=str(path))
    try:
        return msgspec.convert(raw, SplitConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"`{path}` cannot be followed: {error}", path=str(path)) from error
