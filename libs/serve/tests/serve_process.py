"""A real server in a test: the supervisor and its workers as processes of their own, on free ports."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import httpx
import psutil

START_S = 60.0
LAUNCH = """
import json, os, sys
from pathlib import Path
from slipway_bundle import SlipwayError
from slipway_serve.server import serve
options = json.loads(sys.argv[1])
say = lambda line: print(line, flush=True)
try:
    sys.exit(serve(options["targets"], store=Path(options["store"]), environment=os.environ,
                   flags=options["flags"], reload=options["reload"], say=say))
except SlipwayError as error:
    say(str(error))
    sys.exit(error.exit_status)
"""


class Served:
    """A running server; `stop` drains it."""

    def __init__(
        self,
        targets: Sequence[Path | str],
        store: Path,
        flags: dict[str, object],
        *,
        reload: bool,
        env: dict[str, str],
        prepare: str | None = None,
    ) -> None:
        options = {"targets": [str(t) for t in targets], "store": str(store), "flags": flags, "reload": reload}
        beside = store.parent if prepare is None else Path(str(targets[0])).parent  # not in what it mounts over
        self.log = beside / f"server-{time.monotonic_ns()}.log"
        self._out = self.log.open("wb")
        command = [sys.executable, "-c", LAUNCH, json.dumps(options)]
        if prepare is not None:  # in a mount namespace of its own
            command = ["unshare", "-m", "sh", "-c", f'{prepare} && exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
        self.url = ""
        self.admin = ""

    def __enter__(self) -> "Served":
        deadline = time.monotonic() + START_S
        while "metrics  " not in self.said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._out.close()
                raise AssertionError(f"the server did not start (exit {self.process.poll()}):\n{self.said()}")
            os.sched_yield()
            with_timeout(self.process, 0.02)
        self.url = (re.search(r"at +(\S+)", self.said()) or [""])[1] if "unix:" not in self.said() else ""
        self.admin = (re.search(r"metrics +(\S+)/metrics", self.said()) or [""])[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        if error is not None:
            sys.stderr.write(self.said())

    def said(self) -> str:
        """Everything the server has printed."""
        return self.log.read_text(errors="replace")

    def client(self) -> httpx.Client:
        """A client whose paths are relative to the server."""
        return httpx.Client(base_url=self.url, timeout=30)

    def workers(self) -> list[psutil.Process]:
        """The API worker processes."""
        return [child for child in psutil.Process(self.process.pid).children() if _is_worker(child)]

    def metrics(self) -> str:
        """The text of `/metrics`."""
        return httpx.get(f"{self.admin}/metrics", timeout=10).text

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell the server to stop, and its exit status; idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        self._out.close()
        return status


def with_timeout(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for the process to end, or for the time to pass."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


@contextmanager
def serving(
    *targets: Path | str,
    store: Path,
    flags: dict[str, object] | None = None,
    reload: bool = False,
    env: dict[str, str] | None = None,
    prepare: str | None = None,
) -> Iterator[Served]:
    """A server for the length of a `with` block; `prepare` is a shell command that changes what it sees mounted."""
    chosen: dict[str, object] = {"port": 0, "admin_port": 0, "drain_s": 0.2, **(flags or {})}
    with Served(targets, store, chosen, reload=reload, env=env or {}, prepare=prepare) as served:
        yield served


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "slipway_serve.worker" in process.cmdline()
    except psutil.NoSuchProcess:  # it ended since it was listed
        return False
