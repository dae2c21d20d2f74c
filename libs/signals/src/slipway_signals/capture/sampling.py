"""Which requests are captured: a pure function of the request's id, so that every process and service agrees.

It looks at no clock and draws nothing at random. The invariant: for one rate the answer to one id never changes, and
what a lower rate keeps, a higher rate keeps too; so `slipway labels ingest` knows which unknown ids were left out on
purpose. The CRC is multiplied (Knuth, "The Art of Computer Programming" 3, 6.4: 2^32 / golden ratio) so that the choice
is independent of others that are made by the CRC of the same id.
"""

from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

__all__ = ["ERROR_STATUS", "GOLDEN", "HASH_RANGE", "is_sampled", "row_id", "sampled_rows", "threshold_of"]

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


def row_id(request_id: str, number: int) -> str:
    """What a row of a request is called: as the request for the first, `ID/1` for the second."""
    return f"{request_id}/{number}" if number else request_id


def sampled_rows(request_id: str, numbers: range, threshold: int) -> list[int]:
    """Those of the rows `numbers` whose `row_id` is in the sample; makes no id. 10 us, and 4 ns a row."""
    head = request_id.encode("utf-8", "replace")
    start, stop = max(numbers.start, 1), numbers.stop
    chosen = [0] if numbers.start == 0 < stop and is_sampled(request_id, threshold) else []
    if start >= stop:
        return chosen
    sums = _tails(max(4_096, 1 << (stop - 1).bit_length()))[start:stop].astype(np.uint64)
    digits, first = len(str(start)), start
    while first < stop:  # CRC is linear: of tails of one length the head changes the same bits
        last = min(10**digits, stop)
        blank = bytes(digits + 1)
        sums[first - start : last - start] ^= np.uint64(crc32(head + blank) ^ crc32(blank))
        digits, first = digits + 1, last
    hashes = sums * np.uint64(GOLDEN) % np.uint64(HASH_RANGE)
    return chosen + (np.flatnonzero(hashes < threshold) + start).tolist()


@lru_cache(maxsize=4)
def _tails(count: int) -> NDArray[np.uint32]:
    """The CRC of `/0`, `/1`, … each alone."""
    return np.array([crc32(b"/%d" % number) for number in range(count)], dtype=np.uint32)
