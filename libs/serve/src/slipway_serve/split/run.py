"""`slipway split`: one process that listens, follows its file, and ends as a server does (draining.py).

It knows no request. The invariants: what was right stays in force until the next configuration is right; a request that
began under one configuration ends under it; whoever could connect is answered.

    status = run_split(Path("split.toml"), say=print)
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec
import uvicorn
import uvloop

from slipway_runtime.listeners import Listener, listen_tcp
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.access.keys import Keys, load_keys
from slipway_serve.access.tls import server_tls
from slipway_serve.config import ServerConfig
from slipway_serve.connections import protocol_for
from slipway_serve.draining import DrainingServer
from slipway_serve.routes import ServerState
from slipway_serve.split.arm_client import ArmClient
from slipway_serve.split.config import ArmConfig, SplitConfig, load_split
from slipway_serve.split.counting import SplitMetrics
from slipway_serve.split.proxy import SplitApp
from slipway_serve.split.recording import Recorder
from slipway_serve.split.routing import Routing
from slipway_serve.split.thompson import Thompson
from slipway_signals import ServiceMetrics, Slots
from slipway_signals.admin import Admin, Answer, start_admin
from slipway_signals.collector import MergedCollector, make_registry
from slipway_signals.instruments import LoopLag
from slipway_signals.logs import configure_logging
from slipway_signals.processes import ProcessCollector

__all__ = ["run_split"]

logger = logging.getLogger(__name__)

BACKLOG: Final = 2048
JSON: Final = "application/json"


def run_split(path: Path, say: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain; blocks, main thread only. Returns 0, or 130 after Ctrl-C.

    Args:
        path: `split.toml`; read again when it changes.
        say: told one line for each thing a person wants to know.

    Raises:
        SlipwayError: the file, a key file, a certificate or a port cannot be used.
    """
    config = load_split(path)
    collector = MergedCollector()
    fd = collector.open("split")
    slots = Slots.attach(fd)
    os.close(fd)
    split = _Split(path, config, slots)
    with ExitStack() as opened:
        log = configure_logging("split")
        opened.callback(log.close)
        listener = listen_tcp(config.server.host, config.server.port)
        opened.callback(listener.close)
        admin = start_admin(
            make_registry(collector, ProcessCollector(lambda: {"split": os.getpid()})),
            config.server.admin_port,
            config.server.admin_host,
            pages={"/livez": _alive, "/readyz": split.readyz, "/debug/split": split.page},
        )
        opened.callback(admin.close)
        return uvloop.run(_serve(split, slots, listener, admin, say))


async def _serve(split: "_Split", slots: Slots, listener: Listener, admin: Admin, say: Callable[[str], None]) -> int:
    """Listen, serve, drain, write what was counted, close."""
    server_config = split.config.server
    tls = split.tls
    limits = split.config.limits
    metrics = ServiceMetrics(slots, service="split")
    state = ServerState(limits, metrics)
    connection = protocol_for(limits)
    config = uvicorn.Config(
        split.app,
        http=connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,  # an answer carries the arm's
        proxy_headers=False,  # who is connected is who we hand on
        backlog=BACKLOG,
        timeout_keep_alive=int(limits.idle_s),
        timeout_graceful_shutdown=max(1, round(server_config.stop_s)),
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )
    scheme = "http" if tls is None else "https"

    def started() -> None:
        for line in (
            f"splitting {split.shown()}",
            f"  at       {listener.address.replace('http://', scheme + '://')}",
            f"  metrics  {admin.url}/metrics",
        ):
            say(line)

    server = _Server(config, connection, state, server_config.drain_s, started, LoopLag(slots))

    def drain() -> None:
        split.app.is_draining = True
        listener.announce_last_call()
        say("stopping: finishing what was accepted")

    server.on_drain = drain
    server.on_second = [split.tick]
    split.start()
    try:
        await server.serve([socket.socket(fileno=os.dup(listener.fd))])
    finally:
        await split.stop()
    return server.status


class _Server(DrainingServer):
    """Remembers which signal ended it."""

    status = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: stop now."""
        self.status = 130 if sig == signal.SIGINT else 0
        if self._exit_at is not None:  # uvicorn would raise the signal again when all is over
            self.force_exit = self.should_exit = True
        else:
            super().handle_exit(sig, frame)


class _Split:
    """What is in force, and the way from one configuration to the next. Event loop only, but for the pages."""

    def __init__(self, path: Path, config: SplitConfig, slots: Slots) -> None:
        self._path = path
        self._metrics = SplitMetrics(slots)
        self._clients: dict[str, tuple[ArmConfig, ArmClient]] = {}
        self._keys = Keys()
        self._key_file: FollowedFiles | None = None
        self._recorder: Recorder | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self.config = config
        server = config.server
        self.tls = server_tls(ServerConfig(tls_cert=server.tls_cert, tls_key=server.tls_key))
        self._take_keys(config)
        self.app = SplitApp(Routing(config, self._adopt(self._made(config)), lambda: self._keys), self._metrics)
        self._metrics.shares(self.app.routing.weights)
        self._thompson: Thompson | None = None
        self._decides_at = 0.0
        self._is_running = False
        self._file = FollowedFiles([path], self._read)

    def start(self) -> None:
        """Begin to count; inside the event loop."""
        self._is_running = True
        self._record()

    async def stop(self) -> None:
        """End what runs beside requests; windows are written to the last."""
        self._retire()
        await asyncio.gather(*self._ending, return_exceptions=True)
        for _, client in self._clients.values():
            client.close()

    def tick(self) -> None:
        """Called about once a second."""
        self._file.look()
        stale = int(self._file.is_stale)
        for files in (self._key_file, None if self.tls is None else self.tls.files):
            if files is not None:
                files.look()
                stale += files.is_stale
        self._metrics.stale.set(stale)
        now = asyncio.get_running_loop().time()
        for _, client in self._clients.values():
            client.sweep(now)
        self._share(now)

    def shown(self) -> str:
        """The arms in words: `stable 90 % http://…, candidate 10 % http://…`."""
        weights = self.app.routing.weights
        return ", ".join(f"{name} {weights[name]:.4g} {arm.url}" for name, arm in self.config.arms.items())

    def readyz(self) -> Answer:
        """Whether new requests should come."""
        is_ready = not self.app.is_draining
        return (200 if is_ready else 503), msgspec.json.encode({"ready": is_ready}), JSON

    def page(self) -> Answer:
        """What is in force, as JSON."""
        thompson = self._thompson
        shown = {
            "shares": self.app.routing.weights,
            "shadow": None if self.config.shadow is None else self.config.shadow.arm,
            "active": {name: client.active for name, (_, client) in list(self._clients.items())},
            "thompson": None if thompson is None else {"frozen": thompson.frozen, "arms": thompson.standings()},
        }
        return 200, msgspec.json.encode(shown), JSON

    def _read(self) -> None:
        """The file has changed: put it in force. At the start it is in force already."""
        config = load_split(self._path)
        if config == self.config:
            return
        if (config.server, config.limits) != (self.config.server, self.config.limits):
            logger.warning("`[server]` and `[limits]` of %s take effect after a restart", self._path)
            config = msgspec.structs.replace(config, server=self.config.server, limits=self.config.limits)
        made = self._made(config)
        self._take_keys(config)
        clients = self._adopt(made)  # from here on nothing can be wrong
        self._retire()
        self.config = config
        self.app.routing = Routing(config, clients, lambda: self._keys)
        self._metrics.shares(self.app.routing.weights)
        self._record()

    def _made(self, config: SplitConfig) -> dict[str, tuple[ArmConfig, ArmClient]]:
        """The connections to each arm; those to an arm that stays are kept. Raises ConfigError: a CA is wrong."""
        return {name: (arm, self._client(config, name, arm)) for name, arm in config.arms.items()}

    def _adopt(self, fresh: dict[str, tuple[ArmConfig, ArmClient]]) -> dict[str, ArmClient]:
        """Put them in force; connections that are not among them end with their answers."""
        kept = {id(client) for _, client in fresh.values()}
        for _, client in self._clients.values():
            if id(client) not in kept:
                client.close()
        self._clients = fresh
        return {name: client for name, (_, client) in fresh.items()}

    def _client(self, config: SplitConfig, name: str, arm: ArmConfig) -> ArmClient:
        before, client = self._clients.get(name, (None, None))
        is_same = before is not None and (before.url, before.ca) == (arm.url, arm.ca)
        limits = (config.connect_s, config.connections) == (self.config.connect_s, self.config.connections)
        if client is not None and is_same and limits:
            return client
        return ArmClient(arm.url, connect_s=config.connect_s, connections=config.connections, ca=arm.ca)

    def _take_keys(self, config: SplitConfig) -> None:
        """Read the keys of trusted callers."""
        if config.override is None:
            self._key_file, self._keys = None, Keys()
            return
        path = Path(config.override.keys)
        self._key_file = FollowedFiles([path], lambda: self._use(load_keys(path)))

    def _use(self, keys: Keys) -> None:
        self._keys = keys

    def _record(self) -> None:
        """Begin to count, copy, write and learn as the configuration says."""
        config = self.config
        self._thompson = None
        self._metrics.frozen.set(0)
        if not self._is_running:
            return
        if config.thompson is not None:
            now = asyncio.get_running_loop().time()
            self._thompson = Thompson(config.weights, config.thompson, now)
            self._decides_at = now + config.thompson.every_s
        if config.windows is not None or config.shadow is not None or self._thompson is not None:
            self._recorder = Recorder(self.app.routing, self._metrics, self._thompson)
            self._recorder.start()
            self.app.judge = self._recorder

    def _share(self, now: float) -> None:
        """Let Thompson sampling change the shares when it is time, and at once when it has frozen them."""
        thompson, config = self._thompson, self.config.thompson
        if thompson is None or config is None:
            return
        is_news = thompson.frozen is not None and not self._metrics.frozen.value
        if is_news:
            self._metrics.frozen.set(1)
            logger.error("the split is frozen: %s", thompson.frozen)
        if is_news or now >= self._decides_at:
            self._decides_at = now + config.every_s
            self.app.routing.share(thompson.decide(now))
            self._metrics.shares(self.app.routing.weights)

    def _retire(self) -> None:
        """Let the recorder of the configuration before end: its copies, its last window."""
        if self._recorder is not None:
            task = asyncio.ensure_future(self._recorder.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._recorder = None
            self.app.judge = None


def _alive() -> Answer:
    return 200, b'{"alive":true}', JSON
