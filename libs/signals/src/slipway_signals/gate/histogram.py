"""Counts of values in buckets: `Histogram` for whole numbers (latencies in µs), `Sketch` for floats of any sign.

They keep no raw values, know no arm and judge nothing. The invariant: a bucket is named by the largest value it can
hold, so the share of values that are at most `v` is exact at every `v` that is listed, and two of them merge without
loss. Both are plain Structs, `{"v": [ascending bucket values], "n": [counts]}`, so they need no hooks to be encoded
inside another Struct; what is decoded is checked, and equal counts have equal bytes.

The layout of `Histogram` is that of HdrHistogram with 3 significant digits (Tene, http://hdrhistogram.org): whole
numbers below 2048 apart, above that 1024 buckets an octave. That of `Sketch` has 256 buckets an octave: whole numbers
up to 512 and fractions such as 0.5 have buckets of their own.
"""

import math
from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import Annotated, Final, Generic, Self, TypeVar

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import ArrayLike, NDArray

__all__ = ["LARGEST", "Histogram", "Sketch"]

LARGEST: Final = 2**42 - 1
"""The largest number a `Histogram` takes: 51 days in µs."""

DIGITS_BITS: Final = 11
"""Numbers of so many bits are exact in a `Histogram`: 2048 > 2 · 10**3, which is three significant digits."""

SKETCH_BITS: Final = 9
"""Bits of the mantissa that a `Sketch` keeps: a bucket is at most 1/256 = 0.4 % of its value wide."""

TINY: Final = 2.0**-60
"""Floats nearer to zero than this (1e-18) are counted as zero."""

HUGE: Final = 2.0**52
"""Floats beyond it (4.5e15), on either side, are counted as it: canonical JSON has no larger floats."""

Number = TypeVar("Number", int, float)


class _Buckets(Struct, Generic[Number], kw_only=True, forbid_unknown_fields=True):
    """What both share: sorted bucket values, and how many values each bucket holds."""

    values: list[Number] = field(name="v", default_factory=list)
    """Largest value of each bucket that holds any, ascending."""

    counts: list[Annotated[int, Meta(ge=1)]] = field(name="n", default_factory=list)
    """How many, for each of `values`."""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.counts):
            raise ValueError(f"expected as many counts as values, got {len(self.counts)} for {len(self.values)}")
        if any(low >= high for low, high in pairwise(self.values)):
            raise ValueError("expected ascending bucket values, each once")
        for value in self.values:
            if self._bucket(value) != value:
                raise ValueError(f"{value!r} is not the largest value of a bucket: {self._bucket(value)!r} is")

    @property
    def count(self) -> int:
        """How many values were recorded; O(buckets)."""
        return sum(self.counts)

    def record(self, value: Number, count: int = 1) -> None:
        """Count a value, `count` times (at least 1); O(log buckets), less than 1 µs for a `Histogram`.

        Raises:
            ValueError: The value is outside of what the class takes.
        """
        bucket = self._bucket(value)
        values = self.values
        at = bisect_left(values, bucket)
        if at < len(values) and values[at] == bucket:
            self.counts[at] += count
        else:
            values.insert(at, bucket)
            self.counts.insert(at, count)

    def merge(self, other: Self) -> None:
        """Add what another one counted to this one; the other is left as it is."""
        both = dict(zip(self.values, self.counts, strict=True))
        for value, count in zip(other.values, other.counts, strict=True):
            both[value] = both.get(value, 0) + count
        self.values[:] = sorted(both)
        self.counts[:] = [both[value] for value in self.values]

    def quantile(self, q: float) -> Number:
        """The smallest bucket value that at least the share `q` (0 < q ≤ 1) of all values does not exceed.

        It is never below the true quantile of what was recorded, and at most one bucket above it.

        Raises:
            ValueError: Nothing was recorded, or `q` is not a share.
        """
        if not (0.0 < q <= 1.0):
            raise ValueError(f"expected a share 0 < q <= 1, got {q!r}")
        if not self.counts:
            raise ValueError("nothing was recorded, so there is no quantile")
        ranks = list(accumulate(self.counts))
        return self.values[bisect_left(ranks, math.ceil(q * ranks[-1] - 1e-9))]

    @staticmethod
    def _bucket(value: Number) -> Number:
        """The largest value of the bucket of `value`."""
        raise NotImplementedError


class Histogram(_Buckets[int], kw_only=True, forbid_unknown_fields=True):
    """Whole numbers from 0 to `LARGEST`, to three significant digits (a bucket is at most 0.1 % of its value wide)."""

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """A histogram of whole numbers `[n]`, at once.

        Raises:
            ValueError: One is outside 0 … `LARGEST`.
        """
        numbers = np.asarray(values, dtype=np.int64)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() <= LARGEST):
            raise ValueError(f"expected whole numbers from 0 to {LARGEST}, got {numbers.min()} to {numbers.max()}")
        _, bits = np.frexp(numbers)  # exact: they have less than 53 bits
        below = np.left_shift(1, np.maximum(bits.astype(np.int64) - DIGITS_BITS, 0)) - 1
        found, counts = np.unique(numbers | below, return_counts=True)
        return cls(values=found.tolist(), counts=counts.tolist())

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bucket values `[k]` ascending, and counts `[k]`."""
        return np.array(self.values, dtype=np.int64), np.array(self.counts, dtype=np.int64)

    @staticmethod
    def _bucket(value: int) -> int:
        if not 0 <= value <= LARGEST:
            raise ValueError(f"expected a whole number from 0 to {LARGEST}, got {value!r}")
        surplus = value.bit_length() - DIGITS_BITS
        return value | (1 << surplus) - 1 if surplus > 0 else value


class Sketch(_Buckets[float], kw_only=True, forbid_unknown_fields=True):
    """Floats of any sign, to 0.4 % of their value; what is nearer to zero than `TINY` is zero."""

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """A sketch of floats `[n]`, at once.

        Raises:
            ValueError: One is NaN or infinite.
        """
        numbers = np.asarray(values, dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("expected finite numbers, got NaN or an infinity")
        numbers = np.where(np.abs(numbers) < TINY, 0.0, np.clip(numbers, -HUGE, HUGE))
        mantissas, exponents = np.frexp(numbers)
        edges = np.ldexp(np.ceil(np.ldexp(mantissas, SKETCH_BITS)), exponents - SKETCH_BITS)
        found, counts = np.unique(edges, return_counts=True)
        return cls(values=found.tolist(), counts=counts.tolist())

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Bucket values `[k]` ascending, and counts `[k]`."""
        return np.array(self.values, dtype=np.float64), np.array(self.counts, dtype=np.int64)

    @staticmethod
    def _bucket(value: float) -> float:
        if not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {value!r}")
        if -TINY < value < TINY:
            return 0.0
        mantissa, exponent = math.frexp(min(max(value, -HUGE), HUGE))
        return math.ldexp(math.ceil(math.ldexp(mantissa, SKETCH_BITS)), exponent - SKETCH_BITS)
