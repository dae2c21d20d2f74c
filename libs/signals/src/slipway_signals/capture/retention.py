"""What is too old, or too much, to be kept, and whether the clock may decide that: pure, over sizes and times.

It deletes nothing. The invariants: whole parts go, oldest hour first; what is younger than the retention only goes for
the byte cap; nothing that is still being written is ever chosen; a clock that jumps ages nothing until it has gone on
from there for days, so that somebody can set it right before anything is lost.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct

__all__ = ["ClockMark", "Stored", "followed", "too_many", "too_old"]

JUMP_S: Final = 7 * 86_400.0
"""A clock that has moved further since the last run is doubted; what is nearer can cost a week of data at most. Runs
come every few minutes while a service is up, so this is a service that was away for a week, or a wrong clock."""
DOUBT_S: Final = 3 * 86_400.0
"""So long it is doubted: longer than a weekend, in which nobody reads tickets."""
_HOUR: Final = timedelta(hours=1)


class ClockMark(Struct, frozen=True, kw_only=True):
    """What is remembered of the clock from run to run; all in seconds since the epoch."""

    believed_s: float
    """The last time that was believed."""
    doubted_s: float | None = None
    """When the doubt began, on the doubted clock; None: there is none."""
    seen_s: float = 0.0
    """The last time that was doubted."""

    @property
    def age_s(self) -> float:
        """The time by which things are old: of a doubted clock, what it and the believed one agree has passed."""
        return self.believed_s if self.doubted_s is None else min(self.believed_s, self.seen_s)


def followed(mark: ClockMark, now: float) -> ClockMark:
    """What is remembered after a look at the clock that says `now`.

    A jump in either direction is doubted. It is believed when the clock has gone on from there, without another jump,
    for `DOUBT_S`.
    """
    if abs(now - mark.believed_s) <= JUMP_S:
        return ClockMark(believed_s=now)
    since = mark.doubted_s
    if since is None or abs(now - mark.seen_s) > JUMP_S:
        since = now
    if now - since >= DOUBT_S:
        return ClockMark(believed_s=now)
    return ClockMark(believed_s=mark.believed_s, doubted_s=since, seen_s=now)


class Stored(Struct, frozen=True):
    """A part: where it is, the hour (UTC) its requests are from, and its size."""

    path: Path
    hour: datetime
    size_bytes: int

    @classmethod
    def of(cls, path: Path, size_bytes: int) -> "Stored | None":
        """Read from the names of its folders; None when they are not ours."""
        names = dict(step.partition("=")[::2] for step in path.parts)
        try:
            hour = datetime.strptime(f"{names['dt']} {names['hour']}", "%Y-%m-%d %H").replace(tzinfo=UTC)
        except (KeyError, ValueError):
            return None
        return cls(path, hour, size_bytes)


def too_old(parts: Iterable[Stored], now: datetime, retention_days: int) -> list[Stored]:
    """The parts whose youngest request may be older than `retention_days` at `now`."""
    return [part for part in parts if part.hour + _HOUR <= now - timedelta(days=retention_days)]


def too_many(parts: Iterable[Stored], spare_bytes: int) -> list[Stored]:
    """The oldest parts, as many as must go so that the rest fits into `spare_bytes`."""
    ordered = sorted(parts, key=lambda part: (part.hour, part.path))
    excess = sum(part.size_bytes for part in ordered) - spare_bytes
    gone = []
    for part in ordered:
        if excess <= 0:
            break
        gone.append(part)
        excess -= part.size_bytes
    return gone
