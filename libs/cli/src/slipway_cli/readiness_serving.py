"""Before production, the running service: deadlines, ceilings, what is stored, and a start that is watched.

The bundle is served once on free ports of the loopback interface, by the real command. The invariant: the server is
gone when the checks are over, whatever they found.
"""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from slipway_bundle.config import ServiceConfig
from slipway_bundle.errors import SlipwayError
from slipway_bundle.store import Store
from slipway_cli.errors import ServiceCodeError, Told, ToldError
from slipway_cli.readiness import Item, Say, attempt, missing, some
from slipway_cli.readiness_code import Declared
from slipway_cli.readiness_trust import check_caller
from slipway_serve.config import ModelRuntime, PoolConfig, RuntimeConfig, load_runtime
from slipway_signals.slo.model import Counters, ServiceSlos
from slipway_signals.slo.openslo import FILE, load_slos

__all__ = ["check_serving"]

CODE_TIMEOUT_S: Final = 120.0
STOP_S: Final = 30.0
LOOK_EVERY_S: Final = 0.02


def check_serving(config: ServiceConfig, home: Path | None, say: Say) -> Iterator[Item]:
    """Deadlines, queues, memory, capture, cost; then one start.

    Args:
        config: Of the service.
        home: `home/store` holds the bundle; None: it could not be built.
        say: Told each part before it begins.
    """
    toml = f"{config.folder}/slipway.toml"
    try:
        runtime, _ = load_runtime(config.runtime, {}, {})
    except SlipwayError as error:
        yield missing("configuration", error.message, error.hint or f"mend [runtime] of {toml}")
        return
    say("what the code declares")
    declared: tuple[Declared, ...] = ()
    try:
        declared = _declared(config.folder)
    except SlipwayError as error:
        yield missing("code", error.message.splitlines()[0], error.hint or f"slipway serve {config.folder}")
    else:
        yield attempt("deadlines", lambda: _deadlines(config, runtime, declared), f"mend [runtime.slo] of {toml}")
    yield _queues(config, runtime)
    yield _memory(config, runtime)
    if home is None:
        yield missing("warm-up", "there is no bundle to start", f"slipway bundle build {config.folder}")
    else:
        say("starting it")
        yield _warm_up(config, runtime, home)
    yield _capture(runtime, declared)
    yield _cost(runtime)
    yield check_caller(runtime)


def _declared(folder: Path) -> tuple[Declared, ...]:
    """What the code declares. Raises ToldError, ServiceCodeError."""
    command = [sys.executable, "-P", "-B", "-m", "slipway_cli.readiness_code", str(folder), os.devnull]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CODE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as expired:
        raise ServiceCodeError(f"its code was not imported within {CODE_TIMEOUT_S:g} s") from expired
    try:
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=tuple[Declared, ...])
        raise ToldError(msgspec.json.decode(done.stdout, type=Told))
    except msgspec.DecodeError as error:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ServiceCodeError(f"its code cannot be read: {said[-1] if said else 'no word'}") from error


def _deadlines(config: ServiceConfig, runtime: RuntimeConfig, declared: Sequence[Declared]) -> Item:
    """Each route has one, and none ends before its latency objective does."""
    routes = {each.path: runtime.deadline_s(each.slo) for each in declared if each.path is not None}
    promised = load_slos(config.folder / FILE) if (config.folder / FILE).is_file() else None
    for path, deadline_s in routes.items():
        late = [f"{name} ({limit:g} s)" for name, limit in _promised(promised, path) if limit > deadline_s]
        if late:
            slo = next(each.slo for each in declared if each.path == path)
            fix = f"[runtime.slo.{slo}] deadline_ms in {config.folder}/slipway.toml, at least what is promised"
            return missing("deadlines", f"{path} gives up after {deadline_s:g} s, before {some(late)}", fix)
    return Item("deadlines", "ok", ", ".join(f"{path} {deadline_s:g} s" for path, deadline_s in routes.items()))


def _promised(slos: ServiceSlos | None, path: str) -> Iterator[tuple[str, float]]:
    """Latency objectives about a route: name, seconds."""
    for slo in slos.slos if slos is not None else ():
        indicator = slo.indicator
        if isinstance(indicator, Counters) and indicator.threshold_s is not None:
            about = [matcher for matcher in indicator.total.matchers if matcher.label == "http_route"]
            if all(matcher.accepts(path) for matcher in about):
                yield slo.name, indicator.threshold_s


def _queues(config: ServiceConfig, runtime: RuntimeConfig) -> Item:
    settings = {name: runtime.models.get(name, ModelRuntime()) for name in sorted(config.bundle.models)}
    shown = [f"{name} {one.queue_rows} rows wait, {one.max_rows} a batch" for name, one in settings.items()]
    return Item("queues", "ok", f"bounded: {some(shown)}")


def _memory(config: ServiceConfig, runtime: RuntimeConfig) -> Item:
    """A pool without a ceiling grows until the system kills something else."""
    pools: dict[str, PoolConfig] = {}
    for name in config.bundle.models:
        pool = runtime.models.get(name, ModelRuntime()).pool
        if isinstance(pool, PoolConfig):
            pools[f"models.{name}.pool"] = pool
        elif pool is not None and pool in runtime.pools:
            pools[f"pools.{pool}"] = runtime.pools[pool]
    without = sorted(name for name, pool in pools.items() if not pool.memory_mb)
    if without:
        fix = f"memory_mb in [runtime.{without[0]}] of {config.folder}/slipway.toml (docs/pools.md)"
        return missing("memory", f"no ceiling for the replicas of {some(without)}", fix)
    ceilings = [f"{name} {pool.memory_mb} MB a replica" for name, pool in sorted(pools.items())]
    if ceilings:
        return Item("memory", "ok", some(ceilings))
    return Item("memory", "ok", "models run in the API workers: the container's limit is theirs")


class _Start(NamedTuple):
    """What was seen of a start."""

    seconds: float
    """Until `/readyz` first said yes."""

    unproven: tuple[str, ...]
    """Models that had answered no row when `/readyz` first said yes."""


def _warm_up(config: ServiceConfig, runtime: RuntimeConfig, home: Path) -> Item:
    fix = f"slipway serve {config.folder}"
    log = home / "serve.log"
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    command = [sys.executable, "-P", "-m", "slipway_cli", "serve", _ref(home), "--drain-s", "0"]
    command += ["--host", "127.0.0.1", "--port", str(ports[0]), "--admin-port", str(ports[1])]
    environment = os.environ | {"SLIPWAY_HOME": str(home)}
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment) as server,
    ):
        try:
            start = _watch(server, ports, runtime.server.start_s, tuple(config.bundle.models))
        finally:
            server.terminate()
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
    if start is None:
        said = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return missing("warm-up", f"it did not become ready: {said[-1] if said else 'no word'}", fix)
    if start.unproven:
        return missing("warm-up", f"/readyz said yes before {some(list(start.unproven))} had answered", fix)
    return Item("warm-up", "ok", f"ready {start.seconds:.1f} s after the start, when every model had answered a row")


def _watch(
    server: "subprocess.Popen[bytes]", ports: tuple[int, int], start_s: float, models: Sequence[str]
) -> _Start | None:
    """Asks `/readyz` from the first moment on; None when it never says yes."""
    began, pause = time.monotonic(), threading.Event()
    while _get(ports[0], "/readyz")[0] != http.client.OK:
        if server.poll() is not None or time.monotonic() - began > start_s:
            return None
        pause.wait(LOOK_EVERY_S)
    seconds = time.monotonic() - began
    answered = _answered(_get(ports[1], "/metrics")[1])
    return _Start(seconds, tuple(model for model in models if not answered.get(model)))


def _answered(page: str) -> dict[str, float]:
    """Rows that each model has answered."""
    return {
        sample.labels["model"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "slipway_inferences_total" and sample.labels["result"] == "ok"
    }


def _get(port: int, path: str) -> tuple[int, str]:
    """Status and text; status 0: nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def _ref(home: Path) -> str:
    """The one bundle of the store."""
    (only,) = Store.open(home / "store").refs()
    return f"{only.name}:{only.version}"


def _capture(runtime: RuntimeConfig, declared: Sequence[Declared]) -> Item:
    whole = [f"{each.name}.{field}" for each in declared for field in each.whole]
    if not runtime.capture.enabled:
        found = "off: nothing of a request is stored, and labels have nothing to be joined with"
        return Item("capture", "advice", found, "[runtime.capture] enabled = true (docs/capture.md)")
    if whole:
        fix = 'Annotated[str, Redact("length")] where it need not be; docs/capture.md'
        return Item("capture", "advice", f"redacted, but for text that is kept whole: {some(whole)}", fix)
    return Item("capture", "ok", f"{runtime.capture.rate:.2%} of the requests, redacted: no text is kept whole")


def _cost(runtime: RuntimeConfig) -> Item:
    if runtime.cost.usd_per_hour:
        return Item("cost", "ok", f"{runtime.cost.usd_per_hour:g} USD an hour for one instance")
    found = "not told, so cost per inference is not known"
    return Item("cost", "advice", found, "[runtime.cost] usd_per_hour = …, of one instance (docs/signals.md)")
