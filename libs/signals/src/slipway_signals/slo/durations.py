"""Lengths of time as Prometheus and OpenSLO write them: `5m`, `30d`.

No calendar: a day is 24 hours, and months, quarters and years are refused, because an error budget needs one length.
"""

import re
from typing import Final

__all__ = ["duration_text", "parse_duration"]

SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str) -> int | None:
    """Seconds of one number and one unit (`s`, `m`, `h`, `d`, `w`), or None when `text` is not that or is zero."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)
    return int(found[1]) * SECONDS[found[2]] if found else None


def duration_text(seconds: float) -> str:
    """The shortest exact form, in one unit: `5m`, `1d`, `250ms`; below a millisecond it is rounded up to one."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{seconds // SECONDS[unit]:.0f}{unit}"
    if seconds == 0:
        return "0s"
    return f"{max(1, round(seconds * 1_000))}ms"
