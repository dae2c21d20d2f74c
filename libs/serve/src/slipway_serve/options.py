"""What a supervisor tells its API workers: one value that crosses the process border as JSON."""

from msgspec import Struct

from slipway_serve.config import LimitsConfig, RuntimeConfig, ServerConfig


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """What the supervisor tells a worker; crosses the process border as JSON."""

    targets: tuple[str, ...]
    """Bundles (references into the store) or service folders."""
    runtimes: tuple[RuntimeConfig, ...]
    """One decoded `[runtime]` table per target, in their order."""
    store: str
    server: ServerConfig
    limits: LimitsConfig
    listen_fds: tuple[int, ...]
    slipway_version: str
