"""Counts the answers of one arm, and the pairs of both, until a window is over: `records.Counts` in the making.

It asks no clock and sends nothing. The invariant: what was counted is in exactly one window: `take` gives it away and
begins anew. A request is sent in one window and may be settled in a later one. What is hot appends to plain lists;
`take` makes histograms of them at once.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from slipway_signals.gate.answers import Leaves, differing
from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.records import Counts, Pairs

__all__ = ["OTHER", "UNREAD", "ArmTally", "PairTally"]

LABELS: Final = 50
"""Different values of one field that are told apart."""
OTHER: Final = "other"
UNREAD: Final = Leaves({}, {}, frozenset())
"""Of an answer that nobody looks into: a stream, an image."""


class ArmTally:
    """One arm. Not thread-safe."""

    def __init__(self) -> None:
        self._begin()

    def sent(self, *, is_first: bool = False) -> None:
        """A request was sent; `is_first`: this arm was asked first of a pair. HOT."""
        self._sent += 1
        self._first += is_first

    def succeeded(
        self,
        latency_us: int,
        leaves: Leaves | None,
        digest: str = "",
        is_correct: bool | None = None,  # noqa: FBT001  # hot: a keyword costs time
    ) -> None:
        """It was answered. HOT.

        Args:
            latency_us: from the intended send time.
            leaves: what the answer says; None: it does not decode or breaks its schema. `UNREAD`: nobody looked.
            digest: of the bundle that answered; "": it did not say.
            is_correct: whether it is the right answer; None: nobody knows that one.
        """
        self._latencies_us.append(latency_us)
        self._digests[digest] += 1
        if is_correct is not None:
            self._labelled += 1
            self._correct += is_correct
        if leaves is None:
            self._malformed += 1
            return
        for name, numbers in leaves.numbers.items():
            values = self._numbers.get(name)
            if values is None:
                values = self._numbers[name] = []
            values += numbers
        for name, words in leaves.labels.items():
            self.label(name, *words)

    def label(self, name: str, *words: str) -> None:
        """Count words of a field; beyond `LABELS` different ones they are `other`."""
        values = self._labels.setdefault(name, Counter())
        for word in words:
            values[word if word in values or len(values) < LABELS else OTHER] += 1

    def failed(self, reason: str, digest: str = "") -> None:
        """No usable answer came: `http_500`, `timeout`, `connection`, …; `digest` if one said whose it is."""
        self._failed[reason] += 1
        if digest:
            self._digests[digest] += 1

    def take(self) -> Counts:
        """What was counted since the last time."""
        counts = Counts(
            sent=self._sent,
            succeeded=len(self._latencies_us),
            failed=dict(self._failed),
            latency_us=Histogram.of(self._latencies_us),
            first_sent=self._first,
            digests=dict(self._digests),
            malformed=self._malformed,
            outputs={name: Sketch.of(numbers) for name, numbers in self._numbers.items()},
            labels={name: dict(values) for name, values in self._labels.items()},
            labelled=self._labelled,
            correct=self._correct,
        )
        self._begin()
        return counts

    def _begin(self) -> None:
        self._sent = self._first = self._malformed = self._labelled = self._correct = 0
        self._failed: Counter[str] = Counter()
        self._digests: Counter[str] = Counter()
        self._latencies_us: list[int] = []
        self._numbers: dict[str, list[float]] = {}
        self._labels: dict[str, Counter[str]] = {}


class PairTally:
    """Both arms on the same inputs.

    Args:
        tolerances: field → how far two numbers may be apart and still agree; 0 for fields that are not named.
    """

    def __init__(self, tolerances: Mapping[str, float]) -> None:
        self._tolerances = tolerances
        self._compared = 0
        self._disagreed: Counter[str] = Counter()

    def compare(self, stable: Leaves, candidate: Leaves, *, also: tuple[str, ...] = ()) -> bool:
        """Count one pair; `also` names what else is different. Whether it agrees in everything."""
        differs = [*differing(stable, candidate, self._tolerances), *also]
        self._compared += 1
        self._disagreed.update(differs)
        return not differs

    def take(self) -> Pairs:
        """What was counted since the last time."""
        pairs = Pairs(compared=self._compared, disagreed=dict(self._disagreed))
        self._compared = 0
        self._disagreed = Counter()
        return pairs
