"""Counts served rows into the bins of the reference profile.

It judges nothing: rules do, in Prometheus, over all workers. The invariants: memory is bounded (a buffer of `CHUNK`
rows or `BUFFER_BYTES`), and so is the number of
series; what a row costs the caller is an append, and one pass in `CHUNK` rows.

Above `rows_per_s` one row in k is looked at, at a random place in each k, and counts k: unbiased, and no period of the
traffic can hide in it. k changes between two passes only, so the rows of a pass have one weight; it follows what came
in a second, not in a pass: a request of 300 rows takes a millisecond and is no rush.

Feed it what callers were answered. Leave out synthetic traffic.
"""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.rows import RowCodec
from slipway_bundle.schema import Arrays
from slipway_signals.drift.binning import CHUNK, Binner
from slipway_signals.drift.fitting import check_fits
from slipway_signals.drift.predictions import count_predictions, expected_outcomes
from slipway_signals.drift.profile import Prediction, Profile
from slipway_signals.drift.series import MAX_SERIES, Series, that_fit
from slipway_signals.slots import Slots

__all__ = ["DriftCounters"]

ROWS_PER_S: Final = 500.0
SECOND_S: Final = 1.0
"""Over which it is judged how many rows come. Within it k doubles when so many were looked at as a second may have."""

BUFFER_BYTES: Final = 4 * 2**20
"""Rows with large arrays are counted sooner, so that their bytes are not kept."""

LAYOUTS: Final = 64
"""Sizes of rows that choose them, remembered."""

Payload = bytes | memoryview
_Entry = tuple[bytes, Payload, list[int] | None, int, NDArray[Any] | None, int]
"""Key, packed rows, the chosen ones (None: all), how many they are, the batch's predictions, where its rows begin."""


class DriftCounters:
    """Counts for one model in one process. One writer thread, like its slots.

    Args:
        slots: Where the counters live.
        model: The model's name.
        profile: Its reference profile.
        inputs: The codec that packed its rows.
        max_series: Of `slipway_feature_bin_total`; features that do not fit are left out, the last first.
        rows_per_s: Above it rows are sampled.
        clock: Monotonic seconds; asked once a pass.
        seed: Of the sampling.

    Raises:
        ProfileError: The profile has a feature that rows do not have, or have with another type.
    """

    def __init__(
        self,
        slots: Slots,
        model: str,
        profile: Profile,
        inputs: RowCodec[Any],
        *,
        max_series: int = MAX_SERIES,
        rows_per_s: float = ROWS_PER_S,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        check_fits(profile, inputs.specs)
        self._codec = inputs
        self._features = that_fit(profile.features, max_series)
        self._prediction = profile.prediction
        self._field = "" if profile.prediction is None else profile.prediction.feature.name
        self._binners: dict[bytes, Binner] = {}
        self._series = Series(slots, model, profile, self._features)
        self._rows_per_s = rows_per_s
        self._clock = clock
        self._random = Random(seed).random  # noqa: S311  # a sample, no secret
        self._every = 1
        """k: one row in so many is looked at."""
        self._place = 0
        """Of the last chosen row in its k."""
        self._skip = 0
        """Rows that pass before the next chosen one."""
        self._entries: list[_Entry] = []
        self._rows = 0
        self._bytes = 0
        self._since = clock()
        self._came = 0
        """Rows since then."""
        self._looked = 0
        """Rows looked at since then, or since k was doubled."""

    def observe(self, payload: Payload, rows: int, arrays: Arrays, start: int, key: bytes = b"") -> None:
        """Rows were answered. HOT: 0.1 µs where they are not chosen.

        Args:
            payload: The packed rows, as the lane submitted them.
            rows: How many.
            arrays: The answer to the batch that they were part of, field -> `[batch, …]`.
            start: Where these rows begin in it.
            key: Of the rows, where they choose sizes.
        """
        skip = self._skip - rows
        if skip >= 0:
            self._skip = skip
            return
        self._choose(payload, rows, arrays, start, key)

    def flush(self) -> None:
        """Count what is buffered, and see how many rows come. Call it once a second, and before the process ends."""
        now, looked, every = self._clock(), self._rows, self._every
        if looked:
            entries, self._entries = self._entries, []
            self._count(entries, float(every))
        self._rows = self._bytes = 0
        self._came += looked * every
        self._looked += looked
        elapsed_s = now - self._since
        if elapsed_s >= SECOND_S:
            every = max(1, -int(-self._came / elapsed_s // self._rows_per_s))
            self._since, self._came, self._looked = now, 0, 0
        elif self._looked >= self._rows_per_s * SECOND_S:
            every, self._looked = 2 * every, 0
        if every != self._every:
            self._every, self._place = every, 0  # the next k begins here: the last place is one of the old k

    def _choose(self, payload: Payload, rows: int, arrays: Arrays, start: int, key: bytes) -> None:
        at, every = self._skip, self._every
        chosen: list[int] | None = None
        count = rows
        if every == 1:
            at = rows
        else:
            chosen = []
            while at < rows:
                chosen.append(at)
                place = int(self._random() * every)
                at += every - self._place + place
                self._place = place
            count = len(chosen)
            if rows == 1:
                chosen = None
        self._skip = at - rows
        kept = payload if self._features else b""  # a picture whose answer alone is watched
        self._entries.append((key, kept, chosen, count, arrays.get(self._field), start))
        self._rows += count
        self._bytes += len(kept)
        if self._rows >= CHUNK or self._bytes >= BUFFER_BYTES:
            self.flush()

    def _count(self, entries: Sequence[_Entry], weight: float) -> None:
        self._series.rows.inc(self._rows * weight)
        self._series.squares.inc(self._rows * weight * weight)
        if self._features:
            self._count_features(entries, weight)
        if self._prediction is not None:
            self._count_predictions(self._prediction, entries, weight)

    def _count_features(self, entries: Sequence[_Entry], weight: float) -> None:
        whole: dict[bytes, list[Payload]] = {}
        for key, payload, chosen, *_ in entries:
            if chosen is None:
                whole.setdefault(key, []).append(payload)
            else:
                records = self._codec.batch([payload], key).records
                self._add(self._binner(key, records).count(records[chosen]), weight)
        for key, payloads in whole.items():
            records = self._codec.batch(payloads, key).records
            self._add(self._binner(key, records).count(records), weight)

    def _add(self, counts: NDArray[np.int64], weight: float) -> None:
        series = self._series.features
        for counter, count in zip(series, counts.tolist(), strict=True):
            if count:
                counter.inc(count * weight)

    def _binner(self, key: bytes, records: NDArray[np.void]) -> Binner:
        binner = self._binners.get(key)
        if binner is None:
            if len(self._binners) >= LAYOUTS:
                self._binners.clear()
            binner = self._binners[key] = Binner(self._features, records.dtype)
        return binner

    def _count_predictions(self, prediction: Prediction, entries: Sequence[_Entry], weight: float) -> None:
        values = _gathered(entries)
        counts, scores = count_predictions(prediction.feature, values)
        counts[-1] += self._rows - len(values)
        for counter, found in zip(self._series.prediction, counts.tolist(), strict=True):
            counter.inc(found * weight)
        if prediction.calibrator is not None and scores is not None:
            amounts = expected_outcomes(prediction, scores)
            for counter, amount in zip(self._series.expected, amounts, strict=True):
                counter.inc(amount * weight)


def _gathered(entries: Sequence[_Entry]) -> NDArray[Any]:
    """The predictions of the chosen rows, `[n]`; neighbours of one batch are cut out of it together."""
    parts: list[NDArray[Any]] = []
    last: NDArray[Any] | None = None
    first = stop = 0
    for _, _, chosen, count, column, start in entries:
        if column is last and chosen is None and start == stop:
            stop += count
            continue
        if last is not None:
            parts.append(last[first:stop])
        last, first, stop = None, 0, 0
        if not isinstance(column, np.ndarray) or column.size != len(column):
            continue  # no answer that is one value a row: missing
        if chosen is None:
            last, first, stop = column, start, start + count
        else:
            parts.append(column[start:][chosen])
    if last is not None:
        parts.append(last[first:stop])
    return np.concatenate(parts).reshape(-1) if parts else np.empty(0)
