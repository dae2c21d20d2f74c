"""How a service runs: the `[runtime]` table of `slipway.toml`, then `SLIPWAY_*`, then flags; decoded once, passed down.

Nothing here is hashed into a bundle: tuning never changes what is served. Every value knows where it came from
(`origins`), which is what `slipway serve --print-config` prints. Unknown keys are errors that name the nearest one.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from slipway_bundle import ConfigError
from slipway_bundle.image.settings import ImageSettings
from slipway_serve.access.config import AccessConfig
from slipway_signals.capture.config import CaptureConfig
from slipway_signals.logs import LoggingConfig
from slipway_signals.tracing import TracingConfig

Positive = Annotated[int, Meta(gt=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(ge=0)]
Table = TypeVar("Table", bound=Struct)


class SloClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a request of this class may take, when its client names no deadline."""

    deadline_ms: Annotated[float, Meta(gt=0)]


BUILTIN_SLO: Final[Mapping[str, SloClass]] = {
    "realtime": SloClass(deadline_ms=300.0),
    "interactive": SloClass(deadline_ms=2_000.0),
    "chat": SloClass(deadline_ms=30_000.0),
    "batch": SloClass(deadline_ms=60_000.0),
}


class PoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.pools.NAME]`, or `pool = {…}` of one model: runner processes and where they run."""

    device: Literal["cpu", "gpu", "auto"] = "cpu"
    """`auto` is a GPU where there is one."""
    replicas: Positive = 1
    """Runner processes that work."""
    standby: Annotated[int, Meta(ge=0, le=64)] = 0
    """Loaded and warm beside them, to take the place of one that dies at once."""
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of a GPU, for each replica."""
    memory_mb: Annotated[int, Meta(ge=0)] = 0
    """Memory that one replica may use, of its GPU or of the host: reserved when it is placed. On the host a replica
    beyond it is replaced between two batches, and killed a quarter beyond it. 0 = no ceiling."""
    threads: Annotated[int, Meta(ge=0)] = 0
    """Threads of the model's own library in one replica; 0 = the processors, divided."""
    in_flight: Annotated[int, Meta(ge=1, le=8)] = 1
    """Batches handed to one replica at a time; 2 hides the way to it, and binds rows earlier."""
    concurrency: Annotated[int, Meta(ge=0)] = 0
    """Batches that run at once on the device, over all pools that share it; 0 = as many as replicas."""
    max_age_s: Seconds = 0.0
    """A replica older than this is replaced; 0 = never."""
    hang_ms: Annotated[float, Meta(gt=0)] = 1_000.0
    """A batch that takes longer than this, and than ten times its usual time, hangs: its replica is killed."""


class ModelRuntime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.models.NAME]`: placement and batching of one model."""

    pool: PoolConfig | str | None = None
    """Runner processes of its own, or the name of a pool in `[runtime.pools]`; None = in the API worker."""
    remote: str | None = None
    """`grpc://HOST:PORT/MODEL` or `http://…`: the model runs in another server (Open Inference Protocol v2)."""
    calls: Annotated[int, Meta(ge=1, le=256)] = 4
    """Batches under way at once to a remote model."""
    streams: Annotated[int, Meta(ge=1, le=1_024)] = 8
    """Streams of a stream model that are open at once in one API worker."""
    weight: Annotated[float, Meta(gt=0)] = 1.0
    """Share of a pool's replicas, or of a device, while several models wait for it."""

    batching: bool = True
    max_rows: Positive = 256
    """Rows in a batch at most."""
    queue_rows: Positive = 4_096
    """Rows waiting at most; beyond, requests are refused."""
    gather_ms: Seconds = 2.0
    """The longest that a batch is held back for more rows."""
    threads: Positive = 1
    """Threads of the model's own library (OpenMP, ONNX Runtime)."""
    inline_ms: Seconds = 2.0
    """Batches predicted shorter than this run on the event loop, longer ones in a thread."""


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.limits]`: what one client may ask of the server."""

    body_bytes: Positive = 8 * 1024 * 1024
    header_bytes: Positive = 32 * 1024
    rows: Positive = 4_096
    """Rows in one protocol request."""
    headers_s: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds in which the headers of a request must have arrived."""
    body_s: Annotated[float, Meta(gt=0)] = 15.0
    """Seconds in which the body must have arrived."""
    idle_s: Annotated[float, Meta(gt=0)] = 75.0
    """Seconds that an idle connection is kept."""
    deadline_ms: Annotated[float, Meta(gt=0)] = 60_000.0
    """The longest deadline that a client may ask for."""
    connections: Positive = 20_000


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.server]`: addresses and processes."""

    host: str = "127.0.0.1"
    port: Port = 8000
    uds: str | None = None
    """Path of a Unix socket to listen on, instead of host and port."""
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8002
    workers: Annotated[int, Meta(ge=1, le=512)] = 1
    grpc: bool = False
    """Answer the Open Inference Protocol over gRPC too."""
    grpc_port: Port = 8001
    slab_mb: Annotated[int, Meta(ge=1, le=65_536)] = 256
    """Shared memory of one process for rows and answers on their way; touched only as far as it is used."""
    drain_s: Seconds = 1.0
    """How long a stopping worker still takes requests, answering them with `Connection: close`."""
    stop_s: Seconds = 30.0
    """How long it may then take to finish what it accepted."""
    start_s: Annotated[float, Meta(gt=0)] = 60.0
    """Seconds in which a worker must be ready."""
    trust_synthetic: bool = False
    """Believe `X-Slipway-Synthetic`: such requests count apart, and not as users, drift or captured inputs. For servers
    that only trusted callers reach."""
    page: bool = True
    """Serve `/`, `/docs` and `/openapi.json`."""
    tls_cert: str | None = None
    """PEM file of the certificate for HTTPS and gRPC, read again when it changes; None: no TLS."""
    tls_key: str | None = None
    """PEM file of its private key."""
    tls_client_ca: str | None = None
    """PEM file of a CA: clients must show a certificate of it (mTLS)."""
    bundle: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")] | None = None
    """Of a running image: the index digest that it was deployed by, which it cannot know, as the index is made from it.
    Answers to load tests and metrics name it. A bundle of a store knows its own, and this is not asked."""


class EndpointRuntime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.endpoints."/PATH"]`: how an endpoint's deadline is divided."""

    share: dict[str, Annotated[float, Meta(gt=0, le=1)]] = {}
    """Model → its share of the request's deadline; learned when absent."""


class CostConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.cost]`: what an inference costs is this, divided by how many there were."""

    usd_per_hour: Annotated[float, Meta(ge=0)] = 0.0
    """Of one instance (a server process tree, a pod): its share of machine, GPU and licences. 0 = not told."""


class RuntimeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole `[runtime]` table."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    models: dict[str, ModelRuntime] = {}
    pools: dict[str, PoolConfig] = {}
    endpoints: dict[str, EndpointRuntime] = {}
    slo: dict[str, SloClass] = {}
    cost: CostConfig = CostConfig()
    capture: CaptureConfig = CaptureConfig()
    tracing: TracingConfig = TracingConfig()
    logging: LoggingConfig = LoggingConfig()
    access: AccessConfig = AccessConfig()
    image: ImageSettings = ImageSettings()
    """Read by `slipway bundle image` alone."""
    resources: dict[str, dict[str, object]] = {}
    """`[runtime.resources.NAME]`: settings handed to the opener of that resource."""
    publish: tuple[str, ...] = ()
    """Inner models to publish in the Open Inference Protocol beside those with a path."""

    def deadline_s(self, slo: str) -> float:
        """Length of the deadline class, in seconds.

        Raises:
            ConfigError: no such class, neither built in nor in `[runtime.slo]`.
        """
        known = {**BUILTIN_SLO, **self.slo}
        if slo not in known:
            near = difflib.get_close_matches(slo, known, 1)
            raise ConfigError(
                f"slo {slo!r} is not known, expected one of {', '.join(known)}",
                hint=f"did you mean {near[0]!r}?" if near else f"declare [runtime.slo.{slo}] with deadline_ms",
            )
        return known[slo].deadline_ms / 1_000


class Setting(Struct, frozen=True):
    """One value of `[runtime.server]`, `limits`, `access` or `cost`, and where it came from."""

    key: str
    value: object
    origin: str


ENVIRONMENT_TABLES: Final = (
    ("server", ServerConfig),
    ("limits", LimitsConfig),
    ("access", AccessConfig),
    ("cost", CostConfig),
)


def load_runtime(
    raw: Mapping[str, Any], environment: Mapping[str, str], flags: Mapping[str, object]
) -> tuple[RuntimeConfig, tuple[Setting, ...]]:
    """Decode the table, overlaid with the environment and the flags.

    Args:
        raw: the `[runtime]` table as TOML gave it.
        environment: `SLIPWAY_PORT=9000`, `SLIPWAY_LIMITS_BODY_BYTES=…`, `SLIPWAY_ACCESS_KEYS=…`; others are ignored.
        flags: `{"port": 9000}`; keys of `[runtime.server]`; None means not given.

    Returns:
        The configuration, and each setting of these tables with its origin.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.
    """
    tables: dict[str, Any] = {**raw}
    origins: dict[str, str] = {}
    for table, struct in ENVIRONMENT_TABLES:
        values = dict(tables.get(table) or {})
        origins |= {f"{table}.{key}": "slipway.toml" for key in values}
        prefix = "SLIPWAY_" if table == "server" else f"SLIPWAY_{table.upper()}_"
        for field in struct.__struct_fields__:
            name = prefix + field.upper()
            if name in environment:
                values[field] = environment[name]
                origins[f"{table}.{field}"] = f"environment {name}"
            if table == "server" and flags.get(field) is not None:
                values[field] = flags[field]
                origins[f"{table}.{field}"] = f"flag --{field.replace('_', '-')}"
        tables[table] = _decode(values, struct, f"runtime.{table}", lax=True)
    config = _decode(tables, RuntimeConfig, "runtime", lax=False)
    settings = tuple(
        Setting(f"{table}.{field}", getattr(getattr(config, table), field), origins.get(f"{table}.{field}", "default"))
        for table, struct in ENVIRONMENT_TABLES
        for field in struct.__struct_fields__
    )
    return config, settings


def _decode(values: Mapping[str, Any], struct: type[Table], where: str, *, lax: bool) -> Table:
    unknown = [key for key in values if key not in struct.__struct_fields__]
    if unknown:
        near = difflib.get_close_matches(unknown[0], struct.__struct_fields__, 1)
        raise ConfigError(
            f"`{where}.{unknown[0]}` is not known, expected one of {', '.join(struct.__struct_fields__)}",
            hint=f"did you mean `{near[0]}`?" if near else None,
        )
    try:
        return msgspec.convert(values, struct, strict=not lax)
    except msgspec.ValidationError as error:
        raise ConfigError(f"`[{where}]` cannot be used: {error}") from error
