"""What capture does for each model, decided once when the service starts.

It captures nothing. The invariant: what the configuration names (a score, a subject) is a field of the model's types,
or the service does not start; a misspelt field would be noticed weeks later, by its absence.
"""

import difflib
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from slipway_bundle.redaction import FieldPolicy, ValueKind, read_policy
from slipway_signals.capture.config import CaptureConfig, ModelCapture
from slipway_signals.capture.errors import CaptureConfigError
from slipway_signals.capture.projection import Projection, Redactor
from slipway_signals.capture.records import Judge, ModelFormat
from slipway_signals.capture.sampling import threshold_of

__all__ = ["CapturedModel", "Plan"]

_NUMBERS: Final[frozenset[ValueKind]] = frozenset({"int", "float"})
_CHOICES: Final[frozenset[ValueKind]] = frozenset({"choice", "text", "bool", "int"})


class CapturedModel(Struct, frozen=True, kw_only=True):
    """A model, or an endpoint, whose requests may be captured."""

    name: str
    version: str
    """What tells its predictions apart from those of the next release: the bundle's digest or version."""
    takes: object
    """Type of its rows."""
    gives: object
    """Type of its answers."""


class Plan:
    """What capture does for one model. Built for one thread's redactor.

    Raises:
        CaptureConfigError: The configuration names a field that the model's types do not have.
        RedactionError: An annotation of its types cannot be followed.
    """

    def __init__(self, model: CapturedModel, config: CaptureConfig, redactor: Redactor) -> None:
        self.name: Final = model.name
        self.rate: Final = config.rate_of(model.name)
        self.threshold: Final = threshold_of(self.rate)
        self.features: Final = Projection(model.takes, redactor)
        self.prediction: Final = Projection(model.gives, redactor)
        own = config.models.get(model.name, ModelCapture())
        self.unsure: Final = own.unsure
        self.subject: Final = _subject(model, config.subject_field)
        self._middle = own.threshold
        self._score: Callable[[Any], Any] | None = None
        judge = None
        if own.score is not None:
            field = _field(model, own.score, _NUMBERS, "score")
            self._score = attrgetter(".".join(map(str, field.steps)))
            judge = Judge(column=own.score, kind="score", threshold=own.threshold)
        elif own.choice is not None:
            judge = Judge(column=_field(model, own.choice, _CHOICES, "choice").name, kind="choice")
        elif own.number is not None:
            judge = Judge(column=own.number, kind="number", tolerance=own.tolerance)
            _field(model, own.number, _NUMBERS, "number")
        self.format: Final = ModelFormat(
            model=model.name,
            version=model.version,
            features=self.features.columns,
            prediction=self.prediction.columns,
            rate=self.rate,
            judge=judge,
        )

        self.holds_arrays: Final = self.features.holds_arrays or self.prediction.holds_arrays
        self._is_variable = self.features.is_variable or self.prediction.is_variable

    def size_bytes(self, row: Any, answer: Any) -> int:
        """About how much memory the texts, bytes, arrays and lists of a request hold."""
        if not self._is_variable:
            return 0
        size = 0 if row is None else self.features.size_bytes(row)
        return size if answer is None else size + self.prediction.size_bytes(answer)

    def is_unsure(self, answer: Any) -> bool:
        """Whether the score of `answer` is so near to its threshold that it is always kept. HOT where configured."""
        score = None if self._score is None else self._score(answer)
        return score is not None and abs(score - self._middle) < self.unsure


def _subject(model: CapturedModel, name: str | None) -> Callable[[Any], Any] | None:
    """How to reach the person that a row is about; None where the model's rows do not say."""
    fields = {field.name: field for field in read_policy(model.takes) if None not in field.steps}
    if name is None or name not in fields:
        return None
    if fields[name].action == "keep":
        raise CaptureConfigError(
            f"`runtime.capture.subject_field` is {name!r}, which the rows of {model.name!r} would store as it is, "
            "expected a field that is hashed or dropped",
            hint=f'annotate it: `{name}: Annotated[str, Redact("hash")]`',
        )
    return attrgetter(".".join(map(str, fields[name].steps)))


def _field(model: CapturedModel, name: str, kinds: frozenset[ValueKind], what: str) -> FieldPolicy:
    """The field of the answer that is called `name`, which must be stored as it is."""
    fields = {field.name: field for field in read_policy(model.gives) if None not in field.steps}
    where = f"`runtime.capture.models.{model.name}.{what}`"
    if name not in fields:
        near = difflib.get_close_matches(name, fields, 1)
        raise CaptureConfigError(
            f"{where} is {name!r}, expected a field of the model's answer: {', '.join(fields) or 'it has none'}",
            hint=f"did you mean {near[0]!r}?" if near else None,
            field=f"runtime.capture.models.{model.name}.{what}",
        )
    field = fields[name]
    if field.kind not in kinds or field.action != "keep":
        raise CaptureConfigError(
            f"{where} is {name!r}, which is a {field.kind} under the policy {field.action!r}, expected one of "
            f"{', '.join(sorted(kinds))} that is kept"
        )
    return field
