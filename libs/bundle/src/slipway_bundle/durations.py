"""Lengths of time as people write them in `policy.toml`: `12h`, `7d`, `26w`.

It knows no clock. The invariant: a length is positive and has one unit, so nobody has to guess what `1.5` means.
"""

import re
from datetime import timedelta
from typing import Annotated, Final

from msgspec import Meta

from slipway_bundle.errors import UsageError

__all__ = ["DURATION_PATTERN", "Duration", "parse_duration"]

DURATION_PATTERN: Final = r"^[1-9][0-9]{0,4}[smhdw]\Z"

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN, description="a number and one of s, m, h, d, w: `7d`")]
"""The text in a configuration; checked while it is decoded, turned into a length by `parse_duration`."""

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """`7d` as a length of time.

    Raises:
        UsageError: It is not a number from 1 to 99999 and one of `s`, `m`, `h`, `d`, `w`.
    """
    if re.match(DURATION_PATTERN, text) is None:
        raise UsageError(
            f"not a length of time: got {text!r}, expected a whole number and one of s, m, h, d, w",
            hint="for example `12h`, `7d` or `26w`",
        )
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
