"""One process of one worker: start it, hear it, signal it, and know how it ended.

It does not decide when (`supervisor`). The invariant: a process that was started is reaped exactly once, only here and
by its own pid (so coalesced SIGCHLD lose nothing), and whatever is left of its group is killed
before its pid can be used again.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Collection

from slipway_runtime.control import CONTROL_FD, GENERATION, SLOT_FD, ControlReader, Message
from slipway_runtime.supervision import WorkerSpec, WorkerState

__all__ = ["WorkerProcess", "exit_text", "reap_adopted"]


class WorkerProcess:
    """A process that was started from a `WorkerSpec`.

    Raises:
        OSError: when the program cannot be executed.
    """

    def __init__(
        self, spec: WorkerSpec, generation: int, name: str, slot_fd: int | None, *, now: float, start_timeout_s: float
    ) -> None:
        self.spec = spec
        self.generation = generation
        self.name = name
        """One name per start; names the slot."""
        self.state: WorkerState = "starting"
        self.started_at = now
        self.ready_at: float | None = None
        self.deadline: float | None = now + start_timeout_s
        """When it must be ready (starting) or gone (draining)."""
        self.was_killed = False
        """Whether it was killed for missing a deadline, or hastened."""
        self.broken: tuple[str, int] | None = None
        """What it said (message, exit status) when it said that it cannot start."""
        self.why_killed = ""
        """Why the supervisor killed it, for people."""
        self.recycle_reason = ""
        """Why it asked to be replaced, when it did."""
        self._reader = ControlReader()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(0.0)
        passed = [*spec.pass_fds, theirs.fileno()]
        environment = {**spec.env, CONTROL_FD: str(theirs.fileno()), GENERATION: str(generation)}
        if slot_fd is not None:
            passed.append(slot_fd)
            environment[SLOT_FD] = str(slot_fd)
        try:
            self._popen = subprocess.Popen(
                spec.argv,
                env=environment,
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor only, and the group can be killed
            )
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its group."""
        return self._popen.pid

    @property
    def is_open(self) -> bool:
        """Whether it can still say something."""
        return self._control.fileno() >= 0

    def fileno(self) -> int:
        """The supervisor's end of the control socket, for a selector."""
        return self._control.fileno()

    def hear(self) -> list[Message]:
        """What it has said since; does not wait. After the end of the stream the socket is closed (`is_open`).

        Raises:
            ControlError: when it does not speak the protocol.
        """
        messages: list[Message] = []
        while True:
            try:
                data = self._control.recv(65_536)
            except BlockingIOError:
                return messages
            except OSError:
                data = b""
            if not data:
                self._control.close()
                return messages
            messages += self._reader.feed(data)

    def terminate(self) -> None:
        """Tell it to finish (SIGTERM). Its own children are its own business."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and its whole group at once (SIGKILL)."""
        self.was_killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Its return code (negative: the signal) when it has ended, else None. Does not wait."""
        if self._popen.returncode is not None:
            return self._popen.returncode
        if hasattr(os, "waitid"):  # not on macOS before Python 3.13; there its leftovers see the end of their pipes
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            # It is a zombie, so its pid still names its group and nothing else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._popen.poll()

    def reap_after_kill(self, timeout_s: float) -> int | None:
        """Kill it and wait for its end, `timeout_s` at most; None when the kernel does not let it go."""
        self.kill()
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def why_it_ended(self) -> str:
        """The best reason known for its end: its own words, then why it was killed; "" when there is neither."""
        return self.broken[0] if self.broken is not None else self.why_killed

    def close(self) -> None:
        """Let go of the control socket."""
        self._control.close()


def reap_adopted(ours: Collection[int]) -> None:
    """Reap the dead that the kernel gave to this process as the first of its container (pid 1).

    What a killed worker had started becomes a child of pid 1 and stays a zombie until somebody asks for it.
    """
    if os.getpid() != 1 or not hasattr(os, "waitid"):
        return
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid in ours:
                return  # it died just now: its own `reap` comes first, and after it we are here again
            os.waitpid(found.si_pid, 0)


def exit_text(code: int) -> str:
    """How a process ended, for people."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
