"""A runner process with a toy model, and the test's side of it.

A payload is rows joined by commas; the result of a row is `<key>=<row>`. Some rows make the model misbehave: see
`Toy.compute`. Run as a program: `python runtime_runner_child.py PATH GATE_FD LIMITS`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec
from runtime_wire_fakes import DEADLINE_S, POOL, Peer, accept

from slipway_runtime.control import CONTROL_FD, WorkerControl
from slipway_runtime.runner import RunnerLimits, run_runner
from slipway_runtime.wire.frames import Join, Place, Sample, WorkGroup, WorkTicket
from slipway_runtime.wire.slab import SlabView

SLAB_BYTES = 100_000
SAMPLES = [Sample("churn", b"", 1, 0.001)]


class Toy:
    """The model. `gate` is a descriptor that "wait" reads a byte from."""

    name = "churn"

    def __init__(self, gate: int) -> None:
        self._gate = gate
        self._kept: list[bytearray] = []

    def compute(self, key: bytes, payloads: Sequence[bytes | memoryview], rows: int) -> object:
        found = [row for payload in payloads for row in bytes(payload).split(b",")]
        for row in found:
            if row == b"poison":
                raise ValueError(f"bad row in a batch of {rows}")
            if row == b"exit":
                raise SystemExit(3)
            if row == b"interrupt":
                raise KeyboardInterrupt
            if row == b"crash":
                os.kill(os.getpid(), signal.SIGKILL)
            if row == b"wait":
                os.write(2, b"waiting\n")
                os.read(self._gate, 1)
            if row == b"keep":
                self._kept.append(bytearray(b"\1" * (16 * 1024 * 1024)))
        if b"short" in found:
            found.pop()
        return [key + b"=" + (b"x" * int(row[5:]) if row.startswith(b"large") else row) for row in found]

    def encode(self, result: object, start: int, stop: int) -> bytes:
        assert isinstance(result, list)
        rows = result[start:stop]
        if len(rows) < stop - start:
            raise IndexError(f"{len(rows)} rows where {stop - start} were asked for")
        return b",".join(rows)


class RunnerProcess:
    """The process, and the dispatcher's end of its connection."""

    def __init__(
        self, path: str, listener: socket.socket, *, is_supervised: bool = True, limits: RunnerLimits | None = None
    ) -> None:
        self.listener = listener
        gate, self.gate = os.pipe()
        ours, theirs = socket.socketpair()
        self.supervisor = ours
        self.supervisor.settimeout(DEADLINE_S)
        environment = dict(os.environ)
        passed = [gate]
        if is_supervised:
            environment[CONTROL_FD] = str(theirs.fileno())
            passed.append(theirs.fileno())
        command = [sys.executable, __file__, path, str(gate), msgspec.json.encode(limits or RunnerLimits()).decode()]
        self.process = subprocess.Popen(command, env=environment, pass_fds=passed, stderr=subprocess.PIPE)
        os.close(gate)
        theirs.close()

    def accept(self) -> tuple[Peer, Join, SlabView]:
        """Take its connection and its first words."""
        peer = accept(self.listener)
        join, fds = peer.hear_with_fds(Join)
        return peer, join, SlabView(fds[0], join.slab_bytes)

    def hear_from_model(self) -> None:
        """Wait until the model waits."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line == b"waiting\n":
                return
        raise AssertionError("the runner ended")

    def let_go(self) -> None:
        os.write(self.gate, b"x")

    def status(self) -> int:
        """Wait for its end."""
        return self.process.wait(DEADLINE_S)

    def close(self) -> str:
        """End it if it has not ended; returns the rest of its log."""
        self.process.kill()
        assert self.process.stderr is not None
        log = self.process.stderr.read().decode()
        self.process.stderr.close()
        self.process.wait()
        os.close(self.gate)
        self.supervisor.close()
        return log


def group(*payloads: bytes | Place, slab: int = 1, rows: int = 1) -> WorkGroup:
    """Tickets of one worker; inline ones have as many rows as they have."""
    return WorkGroup(
        slab,
        [
            WorkTicket(payload.count(b",") + 1 if isinstance(payload, bytes) else rows, 1e9, payload)
            for payload in payloads
        ],
    )


def main(path: str, gate: str, limits: str) -> int:
    control = WorkerControl.from_environment(os.environ)
    join = Join("runner-1", os.getpid(), POOL, SLAB_BYTES, 0.25, SAMPLES)
    toy = Toy(int(gate))
    grace_s = float(os.environ.get("SLIPWAY_TEST_GRACE_S", str(DEADLINE_S)))
    found = msgspec.json.decode(limits, type=RunnerLimits)
    return run_runner(path, join, {toy.name: toy}, control=control, limits=found, grace_s=grace_s)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
