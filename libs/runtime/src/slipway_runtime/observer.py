"""What the runtime tells about its work: one protocol, satisfied by shape, never imported from a metrics library.

It defines no metric and keeps no number. The invariant: each call is made once per event, on the thread of the event
loop, and its cost is on the hot path (`admitted` runs once a request: keep it under half a microsecond).
"""

from typing import Literal, Protocol

__all__ = ["Observer", "PoolObserver", "SendReason", "SilentObserver", "SilentPoolObserver"]

SendReason = Literal["full", "knee", "deadline", "idle", "flush"]
"""Why a batch left: it was full; waiting would not have raised throughput; a deadline demanded it; nobody else was
expected; or the pool was draining."""


class Observer(Protocol):
    """Receives the events of a pool; `model` is the name of the pool's model and a safe label."""

    def admitted(self, model: str) -> None:
        """One ticket was admitted."""

    def refused(self, model: str, reason: str) -> None:
        """One ticket was refused at the door."""

    def expired(self, model: str, rows: int) -> None:
        """A ticket of `rows` rows passed its deadline without an answer."""

    def cancelled(self, model: str, rows: int) -> None:
        """A ticket of `rows` rows was cancelled by its caller."""

    def answered(self, model: str, rows: int) -> None:
        """Rows of a batch reached their callers; told before the `batch` they were in."""

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: SendReason) -> None:
        """A batch was computed: its rows, the wait of its oldest ticket, the compute time, and why it left."""

    def failed(self, model: str, rows: int) -> None:
        """A ticket of `rows` rows ended in `ModelFailed`."""


class SilentObserver:
    """An observer that keeps nothing: for tests, tools, and a pool without metrics."""

    def admitted(self, model: str) -> None:
        """Keep nothing."""

    def refused(self, model: str, reason: str) -> None:
        """Keep nothing."""

    def expired(self, model: str, rows: int) -> None:
        """Keep nothing."""

    def cancelled(self, model: str, rows: int) -> None:
        """Keep nothing."""

    def answered(self, model: str, rows: int) -> None:
        """Keep nothing."""

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: SendReason) -> None:
        """Keep nothing."""

    def failed(self, model: str, rows: int) -> None:
        """Keep nothing."""


class PoolObserver(Protocol):
    """Receives the events that only a dispatcher sees; `pool` and `model` are names out of configuration."""

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: SendReason) -> None:
        """A batch was computed; see `Observer.batch`."""

    def queued(self, model: str, tickets: int) -> None:
        """So many tickets wait now; told once a second while something happens."""

    def cold(self, model: str, tickets: int) -> None:
        """Tickets came while no replica of their pool was there."""

    def retried(self, model: str, tickets: int) -> None:
        """Tickets whose replica died go to another one."""

    def quarantined(self, model: str, tickets: int) -> None:
        """Tickets were refused because they, or their equals, killed two replicas."""

    def replicas(self, pool: str, active: int, standby: int) -> None:
        """So many replicas of a pool are connected now."""

    def lost(self, pool: str, reason: str) -> None:
        """A replica is gone that was not told to go: `died`, `hung` or `memory`."""


class SilentPoolObserver:
    """A pool observer that keeps nothing."""

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: SendReason) -> None:
        """Keep nothing."""

    def queued(self, model: str, tickets: int) -> None:
        """Keep nothing."""

    def cold(self, model: str, tickets: int) -> None:
        """Keep nothing."""

    def retried(self, model: str, tickets: int) -> None:
        """Keep nothing."""

    def quarantined(self, model: str, tickets: int) -> None:
        """Keep nothing."""

    def replicas(self, pool: str, active: int, standby: int) -> None:
        """Keep nothing."""

    def lost(self, pool: str, reason: str) -> None:
        """Keep nothing."""
