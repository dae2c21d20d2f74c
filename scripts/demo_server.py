"""The demo's server: a real `slipway serve` on free ports, which never outlives the demo (`demo_guard.py`).

It sends no prediction. The invariant: an address is only used when this very server has said that it is its own.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo_folders import scratch
from demo_release import Production
from demo_screen import ROOT, SLIPWAY, StepFailedError, Teller, last_lines, step_line
from demo_traffic import get_text

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
LOOK_EVERY_S: Final = 0.05
PORT: Final = 8000
ADMIN_PORT: Final = 8002


@dataclass(frozen=True)
class Server:
    """A running `slipway serve`."""

    guard: "subprocess.Popen[bytes]"
    log: Path
    command: tuple[str, ...]

    @property
    def port(self) -> int:
        """Where it answers; 0 until it says so."""
        return self._said(r"at +http://127\.0\.0\.1:(\d+)$")

    @property
    def admin_port(self) -> int:
        """Where its metrics are; 0 until it says so."""
        return self._said(r"metrics +http://127\.0\.0\.1:(\d+)/metrics$")

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def last_words(self) -> str:
        """The end of its log."""
        return last_lines(self.log.read_text("utf-8", "replace"))

    def _said(self, pattern: str) -> int:
        found = re.search(pattern, self.log.read_text("utf-8", "replace"), re.MULTILINE)
        return int(found[1]) if found else 0


@contextlib.contextmanager
def serving(teller: Teller, ref: str, production: Production) -> Iterator[Server]:
    """A live `slipway serve`, stopped at the end, whatever the end is.

    Raises:
        StepFailedError: It did not become ready.
    """
    with scratch() as folder:
        ports = (port_or_any(teller, PORT), port_or_any(teller, ADMIN_PORT))
        server = start(ref, production, ports, folder / "serve.log")
        try:
            if not is_ready(teller, server) and "in use" in server.last_words():
                teller.line("      a port was taken meanwhile: using free ones")
                stop(server)
                server = start(ref, production, (0, 0), server.log)
                is_ready(teller, server)
            if server.guard.poll() is not None:
                raise StepFailedError("serve ended before it was ready", server.last_words(), server.command)
            yield server
        finally:
            stop(server)


def start(ref: str, production: Production, ports: tuple[int, int], log: Path) -> Server:
    """Starts the server under its guard; port 0 is a free one."""
    port, admin_port = ports
    command: tuple[str, ...] = (*SLIPWAY, "serve", ref, "--policy", str(production.policy))
    command += ("--port", str(port), "--admin-port", str(admin_port), "--drain-s", "0.2")
    with log.open("wb") as file:
        guard = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "demo_guard.py"), *command],
            cwd=ROOT,
            env=os.environ | production.home,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(guard=guard, log=log, command=command)


def is_ready(teller: Teller, server: Server) -> bool:
    """Waits until the server has said where it is, and /readyz says yes; False when it ended.

    The address comes from its own words: on the port that we asked for, somebody else may answer.

    Raises:
        StepFailedError: It says no for too long.
    """
    ends = time.monotonic() + START_TIMEOUT_S
    while server.guard.poll() is None:
        teller.live(step_line(5, "serve", "..."))
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            if server.port and server.admin_port and get_text(server.port, "/readyz")[0] == 200:
                return True
        if time.monotonic() > ends:
            raise StepFailedError(
                f"serve was not ready within {START_TIMEOUT_S:.0f} s", server.last_words(), server.command
            )
        time.sleep(LOOK_EVERY_S)
    return False


def stop(server: Server) -> None:
    """Closes the guard's stdin, which stops the server, and waits for it."""
    if server.guard.stdin is not None:
        with contextlib.suppress(OSError):
            server.guard.stdin.close()
    try:
        server.guard.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.guard.kill()


def port_or_any(teller: Teller, wanted: int) -> int:
    """The port when it is free, else 0, which is any; says so."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            teller.line(f"      port {wanted} is taken: using a free one")
            return 0
    return wanted
