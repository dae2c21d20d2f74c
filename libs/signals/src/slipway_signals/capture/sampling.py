"""Which requests are captured: a pure function of the request's id, so that every process and service agrees.

It looks at no clock and draws nothing at random. The invariant: for one rate the answer to one id never changes, and
what a lower rate keeps, a higher rate keeps too; so `slipway labels ingest` knows which unknown ids were left out on
purpose. The CRC is multiplied (Knuth, "The Art of Computer Programming" 3, 6.4: 2^32 / golden ratio) so that the choice
is independent of others that are made by the CRC of the same id.
"""

from typing import Final
from zlib import crc32

__all__ = ["ERROR_STATUS", "GOLDEN", "HASH_RANGE", "is_sampled", "threshold_of"]

ERROR_STATUS: Final = 500
"""Statuses from here on are our failures."""

GOLDEN: Final = 0x9E3779B1
HASH_RANGE: Final = 1 << 32


def threshold_of(rate: float) -> int:
    """What the hash of an id must stay below: `is_sampled(id, threshold_of(0.01))` is true for 1 % of the ids."""
    return round(rate * HASH_RANGE)


def is_sampled(request_id: str, threshold: int) -> bool:
    """Whether the request is in the sample. HOT. Any text is accepted, lone surrogates too."""
    return crc32(request_id.encode("utf-8", "replace")) * GOLDEN % HASH_RANGE < threshold
