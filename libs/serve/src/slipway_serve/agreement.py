"""What services that share one server must agree on, because the server does it once for all of them.

It decides nothing else about them. The invariant: no service is followed, named or told of in a way that its own
configuration does not say; the alternative, the first one's settings for all, would be noticed by nobody.
"""

from collections.abc import Iterator, Sequence

from slipway_bundle import ConfigError
from slipway_serve.access.config import AccessConfig
from slipway_serve.config import RuntimeConfig

TABLES = ("tracing", "logging")
"""Tables of which every key counts: a process has one tracer and one log."""


def check_agreement(services: Sequence[tuple[str, RuntimeConfig]]) -> None:
    """Compare the services of one server: name and `[runtime]` of each.

    Raises:
        ConfigError: two of them differ; it names both and the field.
    """
    first: dict[str, tuple[str, object]] = {}
    for name, runtime in services:
        for field, value in _shared(runtime):
            other, expected = first.setdefault(field, (name, value))
            if value != expected:
                raise ConfigError(
                    f"services {other!r} and {name!r} are to share a server and differ in `runtime.{field}`, "
                    f"got {expected!r} and {value!r}, expected one value",
                    hint="write the same into both, or serve them in two processes",
                )


def _shared(runtime: RuntimeConfig) -> Iterator[tuple[str, object]]:
    for table in TABLES:
        struct = getattr(runtime, table)
        for field in struct.__struct_fields__:
            yield f"{table}.{field}", getattr(struct, field)
    for field in AccessConfig.__struct_fields__:
        if field != "routes":  # each writes rules for its own paths
            yield f"access.{field}", getattr(runtime.access, field)
    yield "server.trust_synthetic", runtime.server.trust_synthetic
    if runtime.capture.enabled:  # of others nobody asks
        yield "capture.subject_header", (runtime.capture.subject_header or "").lower()
