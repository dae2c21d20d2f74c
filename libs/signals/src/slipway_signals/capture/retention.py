"""What is too old, or too much, to be kept: a pure decision over sizes and hours.

It deletes nothing. The invariants: whole parts go, oldest hour first; what is younger than the retention only goes for
the byte cap; nothing that is still being written is ever chosen.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct

__all__ = ["Stored", "too_many", "too_old"]

_HOUR: Final = timedelta(hours=1)


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
