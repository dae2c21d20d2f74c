"""Progress of long work, told as numbers: who draws it is not this package's business.

It holds no terminal, no clock and no total: `packed_bytes()` in `layers.py` says how much there will be.
The invariant: the sum of all `advance()` calls equals the bytes that were read, or skipped because they were known.
"""

from typing import Final, Protocol


class Progress(Protocol):
    """Told about every chunk; called from the thread that reads, at most a few hundred times a second."""

    def advance(self, count_bytes: int, /) -> None:
        """`count_bytes` more are done."""


class _Quiet:
    """Listens and says nothing."""

    __slots__ = ()

    def advance(self, count_bytes: int, /) -> None:
        """Ignore it."""


QUIET: Final[Progress] = _Quiet()
"""The default listener."""
