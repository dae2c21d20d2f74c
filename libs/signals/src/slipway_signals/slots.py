"""The values of one process, written where other processes can read them.

It does not know metric names (`metrics`) and never reads other processes (`snapshots`, `collector`). The invariants:
one writer (one thread of one process); room is fixed, and when it runs out a new series is dropped and counted, never
raised: its handle writes to a private scrap so that the hot path has no branch for it; values only ever change by an
aligned 8-byte store, so a reader sees each cell old or new, never torn.

Cost on the reference machine: `benchmarks/metrics.py`.
"""

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slipway_signals.slotfile import (
    CELLS,
    EXEMPLAR_AT_MS,
    EXEMPLAR_CELL,
    EXEMPLAR_CHECK,
    EXEMPLAR_HIGH,
    EXEMPLAR_LOW,
    EXEMPLAR_SPAN,
    EXEMPLAR_VALUE,
    EXEMPLAR_WORDS,
    HEADER_BYTES,
    KEY_BYTES,
    WORD_DROPPED,
    WORD_EXEMPLARS_USED,
    WORD_IGNORED,
    WORD_PUBLISHED,
    WORD_WRITER,
    Cells,
    DamagedError,
    Metric,
    Series,
    SlotError,
    Words,
    encode_frame,
    exemplar_check,
    file_size,
    make_slot_fd,
    read_header,
)

__all__ = ["Counter", "Gauge", "Histogram", "Slots"]

_INFINITY: Final = float("inf")
_U64: Final = (1 << 64) - 1
EXEMPLAR_EVERY_S: Final = 15.0
"""A bucket gets a new exemplar after so long: Prometheus takes one a scrape."""


class Counter:
    """A number that only grows."""

    __slots__ = ("_at", "_cells", "_words")

    def __init__(self, cells: Cells, at: int, words: Words) -> None:
        self._cells = cells
        self._at = at
        self._words = words

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount`. HOT. A negative or NaN amount is ignored and counted, so that the sum can never fall."""
        if 0.0 <= amount < _INFINITY:
            self._cells[self._at] += amount
        else:
            self._words[WORD_IGNORED] += 1

    @property
    def value(self) -> float:
        """The present sum."""
        return float(self._cells[self._at])


class Gauge:
    """A number that goes up and down; it ends with its process."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: Cells, at: int) -> None:
        self._cells = cells
        self._at = at

    def set(self, value: float) -> None:
        """Make it `value`. HOT."""
        self._cells[self._at] = value

    def add(self, amount: float) -> None:
        """Change it by `amount`, which may be negative. HOT."""
        self._cells[self._at] += amount

    @property
    def value(self) -> float:
        """The present value."""
        return float(self._cells[self._at])


class Histogram:
    """Counts of observations by bucket, and their sum."""

    __slots__ = ("_at", "_bounds", "_cells", "_exemplars", "_sum_at", "_words")

    def __init__(
        self, cells: Cells, at: int, bounds: Sequence[float], words: Words, exemplars: "_Exemplars | None" = None
    ) -> None:
        self._cells = cells
        self._exemplars = exemplars
        self._at = at
        self._bounds = bounds
        self._sum_at = at + len(bounds) + 1
        self._words = words

    def observe(self, value: float) -> None:
        """Count `value` in the bucket with the smallest bound >= it. HOT, `O(log buckets)`.

        A negative, infinite or NaN value is ignored and counted: it would make the sum fall, or poison it for ever.
        """
        if 0.0 <= value < _INFINITY:
            cells = self._cells
            cells[self._at + bisect_left(self._bounds, value)] += 1.0
            cells[self._sum_at] += value
        else:
            self._words[WORD_IGNORED] += 1

    def exemplify(self, value: float, trace_id: int, span_id: int, at_s: float) -> None:
        """Let the bucket of `value`, which was observed already, point to a trace. Not hot: for traces that are kept.

        A bucket takes one each `EXEMPLAR_EVERY_S`; the first 512 buckets of a process that get one have room.

        Args:
            value: as observed.
            trace_id: 128 bits.
            span_id: 64 bits.
            at_s: Unix time in seconds.
        """
        if self._exemplars is not None and 0.0 <= value < _INFINITY:
            self._exemplars.put(self._at + bisect_left(self._bounds, value), value, trace_id, span_id, at_s)

    @property
    def count(self) -> float:
        """How many values were observed."""
        return float(sum(self._cells[self._at : self._sum_at]))

    @property
    def sum(self) -> float:
        """Sum of the observed values."""
        return float(self._cells[self._sum_at])


class _Exemplars:
    """The exemplars of one slot file, by the cell of their bucket."""

    def __init__(self, records: Words, words: Words) -> None:
        self._records = records
        self._words = words
        self._room = len(records) // EXEMPLAR_WORDS
        self._places: dict[int, int] = {}
        self._written: dict[int, float] = {}

    def put(self, cell: int, value: float, trace_id: int, span_id: int, at_s: float) -> None:
        """Write one, unless the bucket has a fresh one or there is no room."""
        if at_s < self._written.get(cell, 0.0) + EXEMPLAR_EVERY_S:
            return
        place = self._places.get(cell)
        if place is None:
            place = len(self._places)
            if place >= self._room:
                return
            self._places[cell] = place
        self._written[cell] = at_s
        record = self._records[place * EXEMPLAR_WORDS : (place + 1) * EXEMPLAR_WORDS]
        record[EXEMPLAR_CELL] = cell
        record[EXEMPLAR_HIGH] = trace_id >> 64 & _U64
        record[EXEMPLAR_LOW] = trace_id & _U64
        record[EXEMPLAR_SPAN] = span_id & _U64
        record[EXEMPLAR_VALUE] = struct.unpack("=Q", struct.pack("=d", value))[0]
        record[EXEMPLAR_AT_MS] = max(0, int(at_s * 1_000))
        record[EXEMPLAR_CHECK] = exemplar_check(record[:EXEMPLAR_CHECK])
        self._words[WORD_EXEMPLARS_USED] = len(self._places)


class Slots:
    """The writer's side of one slot file. Not thread-safe; do not use it in a forked child.

    Handles are got once and kept; getting the same one again gives the same cells. There is nothing to close: the
    mapping ends with the last handle, and the file with its last descriptor.
    """

    def __init__(self, mapping: mmap.mmap) -> None:
        view = memoryview(mapping)
        self._words = view[:HEADER_BYTES].cast("Q")
        header = read_header(self._words, len(view))
        self._keys = view[header.keys_at : header.keys_at + header.keys_bytes]
        self._cells = view[header.cells_at : header.exemplars_at].cast("d")
        self._exemplars = _Exemplars(view[header.exemplars_at : header.total_bytes].cast("Q"), self._words)
        self._keys_used = 0
        self._cells_used = 0
        self._metrics: dict[str, int] = {}
        self._handles: dict[tuple[str, tuple[str, ...]], Counter | Gauge | Histogram] = {}
        self._scraps: dict[str, Counter | Gauge | Histogram] = {}

    @classmethod
    def create(cls, path: Path | None = None, *, cells: int = CELLS, key_bytes: int = KEY_BYTES) -> tuple["Slots", int]:
        """A new slot file (nameless without a `path`) and its descriptor, which the caller owns.

        Raises:
            SlotError: when the file exists already or cannot be made.
        """
        fd = make_slot_fd(path, cells=cells, key_bytes=key_bytes)
        return cls.attach(fd), fd

    @classmethod
    def attach(cls, fd: int) -> "Slots":
        """Become the writer of the slot file `fd`; the descriptor may be closed afterwards.

        Raises:
            SlotError: when it is no slot file, is cut off, or has had a writer already.
        """
        try:
            slots = cls(mmap.mmap(fd, file_size(fd)))
        except (DamagedError, OSError) as error:
            raise SlotError(f"descriptor {fd} cannot hold metrics: {error}") from error
        if slots._words[WORD_WRITER]:
            raise SlotError(
                f"the slot file of descriptor {fd} already has a writer: pid {slots._words[WORD_WRITER]}",
                hint="every process, and every restart of it, gets a slot file of its own",
            )
        slots._words[WORD_WRITER] = os.getpid()
        return slots

    @property
    def dropped(self) -> int:
        """How many new series found no room."""
        return int(self._words[WORD_DROPPED])

    @property
    def ignored(self) -> int:
        """How many values could not be counted (negative, infinite or NaN)."""
        return int(self._words[WORD_IGNORED])

    def counter(self, metric: Metric, *values: str) -> Counter:
        """The counter of `metric` with these label values."""
        handle = self._handle(metric, "counter", values)
        if not isinstance(handle, Counter):
            raise TypeError(f"this is a bug in slipway: {metric.name!r} is not a counter")
        return handle

    def gauge(self, metric: Metric, *values: str) -> Gauge:
        """The gauge of `metric` with these label values."""
        handle = self._handle(metric, "gauge", values)
        if not isinstance(handle, Gauge):
            raise TypeError(f"this is a bug in slipway: {metric.name!r} is not a gauge")
        return handle

    def histogram(self, metric: Metric, *values: str) -> Histogram:
        """The histogram of `metric` with these label values."""
        handle = self._handle(metric, "histogram", values)
        if not isinstance(handle, Histogram):
            raise TypeError(f"this is a bug in slipway: {metric.name!r} is not a histogram")
        return handle

    def _handle(self, metric: Metric, kind: str, values: tuple[str, ...]) -> Counter | Gauge | Histogram:
        key = (metric.name, values)
        handle = self._handles.get(key)
        if handle is None:
            if metric.kind != kind or len(values) != len(metric.labels):
                raise TypeError(
                    f"this is a bug in slipway: {metric.name!r} is a {metric.kind} with labels {metric.labels}, "
                    f"it was asked for as a {kind} with values {values}"
                )
            at = self._publish(metric, values)
            if at is None:
                return self._scrap(metric)
            handle = self._handles[key] = self._make(metric, self._cells, at, self._exemplars)
        return handle

    def _scrap(self, metric: Metric) -> Counter | Gauge | Histogram:
        """The handle for series without room: one a metric, so that what is dropped takes no memory either."""
        self._words[WORD_DROPPED] += 1
        handle = self._scraps.get(metric.name)
        if handle is None:
            cells = memoryview(bytearray(8 * metric.width)).cast("d")
            handle = self._scraps[metric.name] = self._make(metric, cells, 0)
        return handle

    def _make(
        self, metric: Metric, cells: Cells, at: int, exemplars: _Exemplars | None = None
    ) -> Counter | Gauge | Histogram:
        if metric.kind == "counter":
            return Counter(cells, at, self._words)
        if metric.kind == "gauge":
            return Gauge(cells, at)
        return Histogram(cells, at, metric.bounds, self._words, exemplars)

    def _publish(self, metric: Metric, values: tuple[str, ...]) -> int | None:
        """Write the record of a new series, then count it. None when there is no room."""
        index = self._metrics.get(metric.name)
        frames = [] if index is not None else [encode_frame(metric)]
        number = len(self._metrics) if index is None else index
        at = self._cells_used
        frames.append(encode_frame(Series(number, values, at)))
        data = b"".join(frames)
        end = self._keys_used + len(data)
        if end > len(self._keys) or at + metric.width > len(self._cells):
            return None
        self._keys[self._keys_used : end] = data
        self._words[WORD_PUBLISHED] += len(frames)  # the one store that makes them visible
        self._metrics[metric.name] = number
        self._keys_used = end
        self._cells_used = at + metric.width
        return at
