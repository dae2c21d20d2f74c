"""Small worker processes, and a way to drive a supervisor by its own events, for the supervisor's tests."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from slipway_runtime.backoff import BackoffLimits
from slipway_runtime.supervision import SlotKeeper, SupervisorEvent, SupervisorLimits, WorkerSpec
from slipway_runtime.supervisor import Supervisor

SAY = """
import os, signal, sys, time
control = int(os.environ["SLIPWAY_CONTROL_FD"])
def say(text): os.write(control, text.encode() + b"\\n")
"""
READY = (
    SAY
    + """
say('{"says": "ready"}')
os.read(control, 1)  # until the supervisor is gone
"""
)
STUBBORN = (
    SAY
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say('{"says": "ready"}')
os.read(control, 1)
"""
)
SILENT = (
    SAY
    + """
os.read(control, 1)
"""
)
LEAVES = (
    SAY
    + """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
say('{"says": "ready"}')
os.read(control, 1)
"""
)
"""Drains at once; its exit status is 0."""
FAILS_IN = (
    SAY
    + """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
if os.environ["SLIPWAY_GENERATION"] in sys.argv[1:]:
    say('{"says": "failed", "message": "golden example 3 does not replay", "exit_status": 1}')
    sys.exit(1)
say('{"says": "ready"}')
os.read(control, 1)
"""
)
"""Cannot start in the generations that its arguments name."""
CRASHING = "raise SystemExit(7)"

FAST = SupervisorLimits(
    start_timeout_s=30.0, drain_timeout_s=30.0, backoff=BackoffLimits(first_s=0.001, ceiling_s=0.002, steady_s=1e6)
)


def child(
    name: str, code: str, *args: str, pass_fds: Sequence[int] = (), stage: int = 0, rolls: bool = True
) -> WorkerSpec:
    argv = (sys.executable, "-I", "-S", "-c", code, *args)
    env = {"PATH": os.defpath}
    return WorkerSpec(name=name, argv=argv, env=env, pass_fds=tuple(pass_fds), stage=stage, rolls=rolls)


class Drive:
    """Runs a supervisor and calls `react(supervisor, event)` for each of its events, in its own thread."""

    def __init__(
        self,
        spec: Sequence[WorkerSpec],
        react: "Callable[[Drive, SupervisorEvent], None]",
        *,
        limits: SupervisorLimits = FAST,
        slots: SlotKeeper | None = None,
    ) -> None:
        self.events: list[SupervisorEvent] = []
        self._react = react
        self.supervisor = Supervisor(spec, on_event=self._hear, limits=limits, slots=slots)
        self.status = self.supervisor.run()

    def _hear(self, event: SupervisorEvent) -> None:
        self.events.append(event)
        self._react(self, event)

    def count(self, kind: str, worker: str | None = None) -> int:
        return sum(1 for one in self.events if one.kind == kind and worker in {None, one.worker})

    def kinds(self, worker: str | None = None) -> list[str]:
        return [one.kind for one in self.events if worker in {None, one.worker}]

    def steps(self, *kinds: str) -> list[tuple[str, str | None, int | None]]:
        """The events of these kinds: what, who, of which generation."""
        return [(one.kind, one.worker, one.generation) for one in self.events if one.kind in kinds]

    def pids(self, worker: str) -> list[int]:
        return [one.pid for one in self.events if one.kind == "started" and one.worker == worker and one.pid]


def read_to_end(fd: int) -> bytes:
    """Everything until the last holder of the pipe's other end is gone."""
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read()


def write_module(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
