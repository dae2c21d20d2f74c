"""What a label says about a prediction: a pure comparison.

It reads no files. The invariant: a label that cannot be compared is an error with words, never an outcome.
"""

import math
from typing import Final

from slipway_signals.capture.records import Judge

__all__ = ["BadLabelError", "outcome_of"]

_TRUE: Final = frozenset({"1", "true", "yes", "t", "y", "1.0"})
_FALSE: Final = frozenset({"0", "false", "no", "f", "n", "0.0"})


class BadLabelError(ValueError):
    """A label that cannot be compared with its prediction."""


def outcome_of(judge: Judge, prediction: object, label: str) -> str:
    """tp, fp, fn or tn for a score; correct or wrong for a choice or a number.

    Args:
        judge: How this model is judged.
        prediction: What was stored of the answer.
        label: As the label file has it.

    Raises:
        BadLabelError: The label is of the wrong kind.
    """
    match judge.kind:
        case "score":
            positive = float(str(prediction)) >= judge.threshold
            if _truth(label):
                return "tp" if positive else "fn"
            return "fp" if positive else "tn"
        case "choice":
            if isinstance(prediction, bool):
                return "correct" if _truth(label) is prediction else "wrong"
            return "correct" if label == str(prediction) else "wrong"
        case "number":
            distance = abs(float(str(prediction)) - _number(label))
            return "correct" if distance <= judge.tolerance else "wrong"


def _truth(label: str) -> bool:
    word = label.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadLabelError(f"label {label!r} is neither true nor false, expected 1, 0, true, false, yes or no")


def _number(label: str) -> float:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadLabelError(f"label {label!r} is no number")
    return number
