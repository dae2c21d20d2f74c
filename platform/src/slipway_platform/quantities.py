"""Kubernetes quantities in the one form that the API server would write them in.

It knows processors and memory and no other resource. The invariant: what `cpu` and `memory` return is canonical, so no
controller has a reason to rewrite it. Argo Rollouts does rewrite quantities, takes ownership of the containers by that,
and the next server-side apply by Pulumi conflicts (argoproj/argo-rollouts#3281).
Format: `k8s.io/apimachinery/pkg/api/resource`, `Quantity.CanonicalizeBytes`.
"""

import re
from fractions import Fraction

from slipway_bundle import UsageError

__all__ = ["QuantityError", "bytes_of", "cpu", "memory", "millicores_of"]

_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<suffix>[A-Za-z]*)\Z")

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_DECIMAL = ("", "k", "M", "G", "T", "P")


class QuantityError(UsageError):
    """A text is not an amount of processors or of memory."""

    code = "quantity_invalid"


def cpu(amount: str | float) -> str:
    """Processors, canonical: `"1000m"` and `1` become `"1"`, `0.5` becomes `"500m"`.

    Raises:
        QuantityError: No amount, less than 1m, or finer than 1m.
    """
    milli = millicores_of(amount)
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def millicores_of(amount: str | float) -> int:
    """Processors in thousandths. Raises QuantityError as `cpu` does."""
    number, suffix = _parts(str(amount), "processors", '"2" or "500m"')
    if suffix not in {"", "m"}:
        raise _refused(str(amount), "processors", '"2" or "500m"')
    milli = number if suffix == "m" else number * 1000
    if milli < 1 or milli.denominator != 1:
        raise QuantityError(
            f"{amount!r} processors cannot be asked for, expected a whole number of thousandths, at least 1m",
            hint='write "500m" for half a processor',
        )
    return int(milli)


def memory(amount: str | int) -> str:
    """Bytes, canonical: `"1024Mi"` becomes `"1Gi"`, `"1.5Gi"` becomes `"1536Mi"`, `"1000M"` becomes `"1G"`.

    A binary suffix stays binary and a decimal one decimal, as the API server does it.

    Raises:
        QuantityError: No amount, zero, or a part of a byte.
    """
    total = bytes_of(amount)
    _, suffix = _parts(str(amount), "memory", '"512Mi" or "2Gi"')
    step, names = (1024, _BINARY) if suffix in _BINARY[1:] and total >= 1024 else (1000, _DECIMAL)
    power = 0
    while power + 1 < len(names) and total % step == 0:
        total //= step
        power += 1
    return f"{total}{names[power]}"


def bytes_of(amount: str | int) -> int:
    """Memory in bytes. Raises QuantityError as `memory` does."""
    number, suffix = _parts(str(amount), "memory", '"512Mi" or "2Gi"')
    if suffix in _BINARY:
        total = number * 1024 ** _BINARY.index(suffix)
    elif suffix in _DECIMAL:
        total = number * 1000 ** _DECIMAL.index(suffix)
    else:
        raise _refused(str(amount), "memory", '"512Mi" or "2Gi"')
    if total < 1 or total.denominator != 1:
        raise QuantityError(f"{amount!r} of memory cannot be asked for, expected a whole number of bytes, at least 1")
    return int(total)


def _parts(text: str, what: str, example: str) -> tuple[Fraction, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise _refused(text, what, example)
    return Fraction(match["number"]), match["suffix"]


def _refused(text: str, what: str, example: str) -> QuantityError:
    return QuantityError(f"{text!r} is no amount of {what}, expected something like {example}")
