"""The time by which a capture folder's contents are old: the clock's, unless it has jumped since the last run.

It deletes nothing, and decides nothing (`retention.followed`). The invariant: what is remembered is in the folder, so
that it survives the restart that a wrong clock often comes with.
"""

import msgspec

from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.private_files import read_own, replace_file
from slipway_signals.capture.retention import ClockMark, Stored, followed

__all__ = ["look_at_clock"]


def look_at_clock(folder: CaptureFolder, now: float, *, is_trusted: bool = False) -> ClockMark:
    """Remember that the clock says `now`, and what is thought of that. The caller holds the folder's lock.

    Args:
        folder: Where it is remembered; the first time, its newest part stands for the last run.
        now: Seconds since the epoch.
        is_trusted: Somebody has looked at a calendar: there is no doubt.

    Raises:
        OSError: The disk refused.
    """
    mark = ClockMark(believed_s=now) if is_trusted else followed(_remembered(folder, now), now)
    replace_file(folder.clock, msgspec.json.encode(mark), through=folder.staging)
    return mark


def _remembered(folder: CaptureFolder, now: float) -> ClockMark:
    try:
        return msgspec.json.decode(read_own(folder.clock), type=ClockMark)
    except (FileNotFoundError, msgspec.MsgspecError):  # the first run, or a person's hand in it
        found = (Stored.of(path.relative_to(folder.data), 0) for path in folder.parts())
        newest = max((part.hour.timestamp() for part in found if part is not None), default=now)
        return ClockMark(believed_s=newest)
