"""Reads the slot file of another process while that process writes to it.

It does not add processes up (`collector`). The invariants: a read never fails and never shows less than an earlier one
did: damage is named in `problem`, and what was readable before stays as it was; a file that was cut off is noticed
before its pages are touched, so it cannot end the reader with SIGBUS.
"""

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from slipway_signals.slotfile import (
    EXEMPLAR_AT_MS,
    EXEMPLAR_CELL,
    EXEMPLAR_CHECK,
    EXEMPLAR_HIGH,
    EXEMPLAR_LOW,
    EXEMPLAR_SPAN,
    EXEMPLAR_VALUE,
    EXEMPLAR_WORDS,
    HEADER_BYTES,
    WORD_DROPPED,
    WORD_EXEMPLARS_USED,
    WORD_IGNORED,
    WORD_PUBLISHED,
    DamagedError,
    Header,
    Metric,
    decode_frame,
    exemplar_check,
    file_size,
    read_header,
)

__all__ = ["Exemplar", "Reading", "SlotReader", "Snapshot"]


_RECORD = struct.Struct(f"={EXEMPLAR_WORDS}Q")


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """One request that a bucket counted, and its trace."""

    metric: Metric
    values: tuple[str, ...]
    value: float
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 of them."""
    at_s: float
    """Unix time, seconds."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One series and its cells: one for a counter or gauge; buckets (not cumulative) and the sum for a histogram."""

    metric: Metric
    values: tuple[str, ...]
    cells: Sequence[float]


class Snapshot(msgspec.Struct, frozen=True):
    """What a slot file said at one moment."""

    readings: tuple[Reading, ...] = ()
    dropped: int = 0
    """New series that found no room."""
    ignored: int = 0
    """Values that could not be counted: negative, infinite or NaN."""
    exemplars: tuple[Exemplar, ...] = ()
    problem: str | None = None
    """Why the file, or its tail, could not be read; None when all is well."""


class _Place(msgspec.Struct, frozen=True, gc=False):
    metric: Metric
    values: tuple[str, ...]
    start: int
    stop: int


class SlotReader:
    """Reads one slot file again and again; records are decoded once. Not thread-safe.

    It duplicates the descriptor (through the mapping), so the caller may close his; `close` lets go.
    """

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        self._mapping: mmap.mmap | None = None
        self._metrics: list[Metric] = []
        self._places: list[_Place] = []
        self._decoded = 0
        self._decode_at = 0
        self._last = Snapshot()

    def read(self) -> Snapshot:
        """The present values; after damage the last good ones, with the `problem`. `O(cells in use)`."""
        try:
            self._last = self._read()
        except (DamagedError, OSError, ValueError) as error:
            self._last = msgspec.structs.replace(self._last, problem=str(error))
        return self._last

    def close(self) -> None:
        """Let go of the file. The last snapshot stays valid."""
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> Snapshot:
        size = file_size(self._fd)
        if self._mapping is None:
            self._mapping = mmap.mmap(self._fd, size, access=mmap.ACCESS_READ)
        with memoryview(self._mapping) as view, view[:HEADER_BYTES].cast("Q") as words:
            header = read_header(words, size)
            published = words[WORD_PUBLISHED]
            with view[header.keys_at : header.keys_at + header.keys_bytes] as keys:
                problem = self._decode(keys, published, header.cells)
            used = self._places[-1].stop if self._places else 0
            with view[header.cells_at : header.cells_at + 8 * used] as raw, raw.cast("d") as cells:
                numbers: Sequence[float] = cells.tolist()
            readings = tuple(Reading(p.metric, p.values, numbers[p.start : p.stop]) for p in self._places)
            exemplars = self._exemplars(view, header, words[WORD_EXEMPLARS_USED])
            return Snapshot(readings, words[WORD_DROPPED], words[WORD_IGNORED], exemplars, problem)

    def _exemplars(self, view: memoryview, header: Header, used: int) -> tuple[Exemplar, ...]:
        """The exemplars of series that are known, except those that are being written."""
        if not used:
            return ()
        with view[header.exemplars_at : header.total_bytes] as raw:
            data = bytes(raw[: 8 * EXEMPLAR_WORDS * min(used, header.exemplars)])
        starts = [place.start for place in self._places]
        found: list[Exemplar] = []
        for at, record in zip(range(0, len(data), _RECORD.size), _RECORD.iter_unpack(data), strict=True):
            index = bisect_right(starts, record[EXEMPLAR_CELL]) - 1
            if exemplar_check(data[at : at + 8 * EXEMPLAR_CHECK]) != record[EXEMPLAR_CHECK] or index < 0:
                continue
            place = self._places[index]
            value = struct.unpack("=d", struct.pack("=Q", record[EXEMPLAR_VALUE]))[0]
            if place.metric.kind == "histogram" and record[EXEMPLAR_CELL] < place.stop - 1:
                trace_id = f"{record[EXEMPLAR_HIGH]:016x}{record[EXEMPLAR_LOW]:016x}"
                span_id, at_s = f"{record[EXEMPLAR_SPAN]:016x}", record[EXEMPLAR_AT_MS] / 1_000
                found.append(Exemplar(place.metric, place.values, value, trace_id, span_id, at_s))
        return tuple(found)

    def _decode(self, keys: memoryview, published: int, cells: int) -> str | None:
        """Take in the records that are new since the last read, up to the first damaged one."""
        if published < self._decoded:
            raise DamagedError(f"the slot file lost records: {published} now, {self._decoded} before")
        while self._decoded < published:
            try:
                record, after = decode_frame(keys, self._decode_at)
                if isinstance(record, Metric):
                    self._metrics.append(record)
                else:
                    self._places.append(self._place(record.metric, record.values, record.cell, cells))
            except DamagedError as error:
                return str(error)
            self._decoded += 1
            self._decode_at = after
        return None

    def _place(self, metric: int, values: tuple[str, ...], cell: int, cells: int) -> _Place:
        if not 0 <= metric < len(self._metrics):
            raise DamagedError(f"a series names definition {metric}, there are {len(self._metrics)}")
        definition = self._metrics[metric]
        begin = self._places[-1].stop if self._places else 0
        if cell != begin or cell + definition.width > cells:
            raise DamagedError(f"a series of {definition.name!r} lies at cell {cell}, expected {begin} of {cells}")
        if len(values) != len(definition.labels):
            raise DamagedError(f"a series of {definition.name!r} has {len(values)} label values: {definition.labels}")
        return _Place(definition, values, cell, cell + definition.width)
