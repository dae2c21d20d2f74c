"""Who a dispatcher is connected to: API workers and runners, and the payloads that it will not hand out again.

State only; the dispatcher acts. The invariants: a peer's slab is known by one number for the life of the dispatcher;
what a worker holds of runners' slabs is listed until it gives it back; the quarantine is bounded in number and time.
"""

import contextlib
import hashlib
import os
import resource
import signal
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway_runtime.wire.connection import FrameSocket
from slipway_runtime.wire.frames import Attach, Join, Place, Rejected, RejectedTicket
from slipway_runtime.wire.slab import SlabView

if TYPE_CHECKING:
    from slipway_runtime.dispatch.spec import PoolSpec
    from slipway_runtime.request import Ticket

__all__ = ["Quarantine", "RunnerPeer", "WorkerPeer"]

QUARANTINE_S: Final = 600.0
"""How long an equal payload is refused: long enough for a client's retries, short enough for a repaired model."""
QUARANTINED: Final = 1024
"""Payloads remembered over all models."""


class WorkerPeer:
    """One API worker."""

    __slots__ = (
        *("_view", "connection", "held", "known_slabs", "name", "pools", "rejected", "slab", "slab_bytes"),
        *("slab_fd", "tickets"),
    )

    def __init__(self, connection: FrameSocket, slab: int, attach: Attach, slab_fd: int) -> None:
        self.connection = connection
        self.name = attach.name
        self.pools: tuple[PoolSpec, ...] = attach.pools
        self.slab = slab
        self.slab_bytes = attach.slab_bytes
        self.slab_fd = slab_fd
        self.known_slabs: set[int] = set()
        self.tickets: dict[int, Ticket] = {}
        """Those without a last word, by the worker's own number."""
        self.held: set[tuple[int, int]] = set()
        """Places (slab, offset) in runners' slabs that it has not given back."""
        self.rejected: list[RejectedTicket] = []
        """Last words that leave with the next flush."""
        self._view: SlabView | None = None

    def take_rejected(self) -> Rejected:
        """The last words that wait, as one frame."""
        frame = Rejected(self.rejected)
        self.rejected = []
        return frame

    def bytes_of(self, payload: object) -> bytes:
        """A payload of this worker, copied out of its slab when it is there."""
        if isinstance(payload, Place):
            if self._view is None:
                self._view = SlabView(os.dup(self.slab_fd), self.slab_bytes)
            return bytes(self._view.read(payload))
        if isinstance(payload, bytes):
            return payload
        raise TypeError(f"this is a bug in slipway: a payload is a {type(payload).__name__}")

    def close(self) -> None:
        """Let go of its slab."""
        self._view = None
        os.close(self.slab_fd)


class RunnerPeer:
    """One runner: a replica of its pool."""

    __slots__ = (
        *("connection", "end_reason", "flights", "is_dismissed", "is_leaving", "known_slabs", "name", "pid"),
        *("replica", "slab", "slab_bytes", "slab_fd", "spec"),
    )

    def __init__(self, connection: FrameSocket, number: int, join: Join, slab_fd: int) -> None:
        self.connection = connection
        self.name = join.name
        self.pid = join.pid
        self.spec: PoolSpec = join.pool
        self.replica = self.slab = number
        self.slab_bytes = join.slab_bytes
        self.slab_fd = slab_fd
        self.known_slabs: set[int] = set()
        self.flights: dict[int, list[Ticket]] = {}
        """Number of a batch → its tickets, in the order in which they were sent."""
        self.is_leaving = False
        self.is_dismissed = False
        self.end_reason: str | None = None
        """Why it was killed, when it was."""

    @property
    def label(self) -> str:
        """The pool's name without its generation."""
        return self.spec.name.rpartition("@")[0]

    def kill(self) -> None:
        """End it at once. It is connected, so its pid is still its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Memory of its own, without what other processes map too; 0 where the system does not tell."""
        try:
            _, resident, shared, *_ = map(int, Path(f"/proc/{self.pid}/statm").read_bytes().split())
        except (OSError, ValueError):
            return 0
        return (resident - shared) * resource.getpagesize()

    def close(self) -> None:
        """Let go of its slab."""
        os.close(self.slab_fd)


class Quarantine:
    """Payloads that killed two runners, by fingerprint."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self._models: dict[str, int] = {}

    def watches(self, model: str) -> bool:
        """Whether any payload of the model is refused: what costs a fingerprint of each. HOT."""
        return model in self._models

    def add(self, model: str, payload: bytes, now: float) -> None:
        """Refuse equal payloads from now on."""
        entry = (model, _fingerprint(payload))
        if entry not in self._until:
            self._models[model] = self._models.get(model, 0) + 1
        self._until[entry] = now + QUARANTINE_S
        self._until.move_to_end(entry)
        while len(self._until) > QUARANTINED or next(iter(self._until.values())) <= now:
            self._forget(next(iter(self._until)))

    def holds(self, model: str, payload: bytes, now: float) -> bool:
        """Whether this payload is refused."""
        entry = (model, _fingerprint(payload))
        until = self._until.get(entry)
        if until is not None and until <= now:
            self._forget(entry)
            return False
        return until is not None

    def _forget(self, entry: tuple[str, bytes]) -> None:
        del self._until[entry]
        self._models[entry[0]] -= 1
        if not self._models[entry[0]]:
            del self._models[entry[0]]


def _fingerprint(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()
