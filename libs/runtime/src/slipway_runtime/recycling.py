"""Gives workers that ask for it a fresh process of the same generation: memory that grew, age.

It starts through the `Crew`, and drains nobody: the successor takes the place over when it is ready, as in a reload.
The invariants: a worker serves until its successor is ready; one worker at a time has a successor, so that ten that ask
together never need the memory of twenty; a worker whose successor failed is tried again only after a wait.
"""

from slipway_runtime.crew import Crew
from slipway_runtime.seats import Seat

__all__ = ["Recycling"]


class Recycling:
    """Not thread-safe; it never waits. It is not to be called while a rollout runs: that replaces everybody anyway."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def proceed(self, now: float) -> None:
        """Start the successor of the next worker that asked, when it is due and no other is being replaced."""
        for seat in self._asking():
            if seat.recycle_at is not None and now < seat.recycle_at:
                continue
            if seat.worker is not None:
                self._crew.tell("recycling", seat, seat.worker, message=seat.worker.recycle_reason)
            why = self._crew.start(seat, seat.spec, seat.generation)
            if not why:
                return
            self.failed(seat, why, now)

    def succeeded(self, seat: Seat) -> None:
        """The successor has the place."""
        seat.recycled += 1
        seat.recycle_at = None
        seat.recycle_backoff.steady()

    def failed(self, seat: Seat, why: str, now: float) -> None:
        """The successor ended before it was ready; the worker goes on."""
        seat.recycle_at = seat.recycle_backoff.failed(now)
        wait = seat.recycle_at - now
        self._crew.tell("recycle_failed", seat, seat.worker, message=f"{why}; tried again in {wait:.1f} s")

    def wakes_at(self) -> float | None:
        """When `proceed` has something to do although nothing happened."""
        return min((seat.recycle_at for seat in self._asking() if seat.recycle_at is not None), default=None)

    def _asking(self) -> list[Seat]:
        """Whose worker asked for a successor; empty while somebody is being replaced."""
        if any(seat.is_moving for seat in self._crew.seats):
            return []
        return [seat for seat in self._crew.seats if seat.is_ready and seat.worker and seat.worker.recycle_reason]
