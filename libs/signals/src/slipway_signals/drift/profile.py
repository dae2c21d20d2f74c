"""The reference profile: what the training sample looked like, as bins and counts. The stored form and its checks.

It builds nothing (`building`) and counts nothing (`online`). The invariants: a `Profile` that `decode_profile` gave is
consistent (cuts ascend, counts add up to the rows, labels are unique); equal profiles have equal bytes. It holds counts
and bounds of the sample and the names of categories, never a row of it.

A number x lies in bin i when cut[i-1] < x <= cut[i]; below the sample's smallest value it is `low`, above its largest
`high`, NaN is `missing`. A word is one of the most frequent values, or `other` (seen in the sample), or `unseen`.

Bins at the quantiles of the reference alone: with bins over both samples (evidently#1400) scores of two windows cannot
be compared, and one outlier moves every bin.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta, Struct

from slipway_bundle.errors import FileError, IntegrityError
from slipway_bundle.schema import Datatype

__all__ = [
    "HIGH",
    "LOW",
    "MISSING",
    "OTHER",
    "UNSEEN",
    "Calibrator",
    "Categorical",
    "Feature",
    "Numeric",
    "Prediction",
    "Profile",
    "ProfileError",
    "compute_dtype",
    "decode_profile",
    "encode_profile",
    "load_profile",
]

SCHEMA_VERSION: Final = "1.0"
MAX_BYTES: Final = 1024 * 1024
"""Of one profile. 50 features take about 25 kB; more than this is no profile."""

LOW, HIGH, MISSING, OTHER, UNSEEN = "low", "high", "missing", "other", "unseen"
RESERVED: Final = frozenset({LOW, HIGH, MISSING, OTHER, UNSEEN})
MAX_LABEL: Final = 48
"""Characters of a category in a label; the rest is cut off."""

EMPTY: Final = "(empty)"
"""The label of the category "": to Prometheus an empty label is none."""

_Count = Annotated[int, Meta(ge=0)]
_Name = Annotated[str, Meta(min_length=1, max_length=256)]


class ProfileError(IntegrityError):
    """A reference profile is not one, contradicts itself, or does not fit the model."""

    code = "profile_invalid"


class _Stored(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is written to disk: camelCase, defaults left out, unknown fields of a newer minor version accepted."""


class Numeric(_Stored, frozen=True, kw_only=True, tag="numeric", tag_field="kind"):
    """A number: quantile bins between the smallest and the largest value of the sample."""

    name: _Name
    datatype: Datatype
    """In which rows carry it: the bounds are exact in this type."""

    low: float | None
    """Smallest value; None when every value was missing."""

    high: float | None
    cuts: tuple[float, ...] = ()
    """Upper bounds of the bins but the last, inclusive, ascending; at least `low`, below `high`."""

    counts: tuple[_Count, ...] = ()
    """Of each bin: one more than cuts, or none when every value was missing."""

    missing: _Count = 0

    @property
    def bins(self) -> tuple[str, ...]:
        """Labels: `low`, `b01` …, `high`, `missing`."""
        return (LOW, *(f"b{number:02d}" for number in range(1, len(self.counts) + 1)), HIGH, MISSING)

    @property
    def bin_counts(self) -> tuple[int, ...]:
        """Rows of the sample in each of `bins`."""
        return (0, *self.counts, 0, self.missing)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Ascending; as many as a value exceeds is the place of its bin in `bins`."""
        if self.low is None or self.high is None:
            return (-math.inf,)  # whatever comes is beyond a sample that had nothing
        below = float(np.nextafter(compute_dtype(self.datatype).type(self.low), -np.inf))
        return (below, *self.cuts, self.high)

    def problem(self) -> str | None:
        """What is wrong with it, None when nothing is."""
        if self.low is None or self.high is None:
            return None if self.low is self.high and not self.cuts and not self.counts else "bins without a range"
        bounds = (self.low, *self.cuts, self.high)
        if not all(map(math.isfinite, bounds)):
            return f"bounds {bounds!r}, expected finite ones"
        if any(a >= b for a, b in pairwise(bounds[1:])) or bounds[0] > bounds[1]:
            return f"bounds {bounds!r}, expected ascending ones"
        if len(self.counts) != len(self.cuts) + 1:
            return f"{len(self.counts)} counts for {len(self.cuts) + 1} bins"
        return None


class Categorical(_Stored, frozen=True, kw_only=True, tag="categorical", tag_field="kind"):
    """A word of a closed set, or a bool: the most frequent values of the sample, and the rest together."""

    name: _Name
    datatype: Datatype
    values: tuple[str, ...] = ()
    """Most frequent first; equally frequent ones by their bytes."""

    counts: tuple[_Count, ...] = ()
    """Of each value."""

    others: tuple[str, ...] = ()
    """The sample's further values, together the bin `other`."""

    other: _Count = 0
    missing: _Count = 0

    @property
    def bins(self) -> tuple[str, ...]:
        """Labels: the values, `other`, `unseen`, `missing`."""
        return (*_labels(self.values), OTHER, UNSEEN, MISSING)

    @property
    def bin_counts(self) -> tuple[int, ...]:
        """Rows of the sample in each of `bins`."""
        return (*self.counts, self.other, 0, self.missing)

    def problem(self) -> str | None:
        """What is wrong with it, None when nothing is."""
        if len(self.counts) != len(self.values):
            return f"{len(self.counts)} counts for {len(self.values)} values"
        known = (*self.values, *self.others)
        if len(set(known)) != len(known):
            return "a value twice"
        return None if self.others or not self.other else f"{self.other} other rows without their values"


Feature: TypeAlias = Numeric | Categorical


class Calibrator(_Stored, frozen=True, kw_only=True):
    """From a score to the probability of the label, piecewise linear, flat outside."""

    scores: Annotated[tuple[float, ...], Meta(min_length=1, max_length=32)]
    """Strictly ascending."""

    probabilities: Annotated[tuple[float, ...], Meta(min_length=1, max_length=32)]
    """Not descending, 0 to 1."""

    def problem(self) -> str | None:
        """What is wrong with it, None when nothing is."""
        if len(self.scores) != len(self.probabilities):
            return f"{len(self.scores)} scores for {len(self.probabilities)} probabilities"
        if not all(map(math.isfinite, self.scores)) or any(a >= b for a, b in pairwise(self.scores)):
            return "scores that do not ascend"
        steps = (0.0, *self.probabilities, 1.0)
        return "probabilities that descend or leave 0 to 1" if any(not a <= b for a, b in pairwise(steps)) else None


class Prediction(_Stored, frozen=True, kw_only=True):
    """What the model answered for a sample; its field, bins and, of a labelled probability, its calibration."""

    feature: Feature
    """Named like the field of the answer."""

    threshold: float = 0.5
    """A probability of at least this predicts the label."""

    calibrator: Calibrator | None = None
    outcomes: tuple[_Count, _Count, _Count, _Count] | None = None
    """Of the labelled sample: true positives, false positives, false negatives, true negatives."""

    @property
    def rows(self) -> int:
        """Predictions in the sample."""
        return sum(self.feature.bin_counts)


class Profile(_Stored, frozen=True, kw_only=True):
    """What one model was trained on."""

    schema_version: str
    model: _Name
    rows: Annotated[int, Meta(ge=1)]
    """Of the reference sample."""

    features: tuple[Feature, ...]
    """Most important first, when the builder knew; else in the row's order."""

    unwatched: tuple[str, ...] = ()
    """Inputs that have no bins: free text, bytes, large arrays."""

    prediction: Prediction | None = None


class _Version(Struct, frozen=True, rename="camel"):
    schema_version: str


def encode_profile(profile: Profile) -> bytes:
    """The one byte form of a profile: compact JSON with a final line feed.

    Not RFC 8785: that writes 1e18 as an integer, which strict readers refuse.
    """
    return msgspec.json.encode(profile) + b"\n"


def decode_profile(data: bytes, *, what: str = "a reference profile") -> Profile:
    """A profile from its bytes.

    Args:
        data: JSON.
        what: Names it in messages, for example its path.

    Raises:
        ProfileError: Too long, not JSON, of an unknown major version, or inconsistent; the message says where.
    """
    if len(data) > MAX_BYTES:
        raise ProfileError(f"{what} is too long: got {len(data)} bytes, expected at most {MAX_BYTES}")
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
            raise ProfileError(f"{what} has version {version!r}, expected {SCHEMA_VERSION!r} or a later 1.x")
        profile = msgspec.json.decode(data, type=Profile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(
            f"{what} is not a reference profile: {error}",
            hint="`slipway_signals.drift.build_profile` makes one of the training sample",
        ) from error
    _check(profile, what)
    return profile


def load_profile(path: Path) -> Profile:
    """The profile in a file.

    Raises:
        FileError: It cannot be read.
        ProfileError: As `decode_profile`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    return decode_profile(data, what=repr(str(path)))


def compute_dtype(datatype: Datatype) -> np.dtype[Any]:
    """The type in which values of a datatype meet their bounds: exact for all but integers beyond 2**53."""
    return np.dtype(np.float32 if datatype in {"FP16", "FP32"} else np.float64)


def _labels(values: Sequence[str]) -> Iterator[str]:
    """Categories as labels: short, none of them empty, reserved or twice."""
    taken = set(RESERVED)
    for value in values:
        label = short = value[:MAX_LABEL] or EMPTY
        number = 2
        while label in taken:
            label, number = f"{short}~{number}", number + 1
        taken.add(label)
        yield label


def _check(profile: Profile, what: str) -> None:
    """The rules between fields. Raises ProfileError."""
    names = [feature.name for feature in profile.features]
    if len(set(names)) != len(names):
        raise ProfileError(f"{what} has a feature twice: {sorted(names)}")
    prediction = profile.prediction
    for feature in (*profile.features, *((prediction.feature,) if prediction else ())):
        if problem := feature.problem():
            raise ProfileError(f"{what}: feature {feature.name!r} has {problem}")
    for feature in profile.features:
        counted = sum(feature.bin_counts)
        if counted != profile.rows:
            raise ProfileError(f"{what}: feature {feature.name!r} counts {counted} rows, expected {profile.rows}")
    if prediction is not None and prediction.calibrator and (problem := prediction.calibrator.problem()):
        raise ProfileError(f"{what}: the calibrator has {problem}")
