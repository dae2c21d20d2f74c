"""`[runtime.capture]`: whether inputs and outputs are stored, how many, where, and for how long.

It opens nothing. The invariants: capture is off unless somebody wrote `enabled = true` and a folder; what cannot mean
anything (two subjects, a score without a model's answer) is refused when it is read, not at the first request.
"""

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["CaptureConfig", "ModelCapture"]

Share = Annotated[float, Meta(ge=0, le=1)]
Bytes = Annotated[int, Meta(ge=1_000_000)]
Seconds = Annotated[float, Meta(gt=0)]
Days = Annotated[int, Meta(ge=1, le=3_650)]


class ModelCapture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.capture.models.NAME]`: what is particular to one model."""

    rate: Share | None = None
    """Share of its requests; None = the rate of `[runtime.capture]`."""
    score: str | None = None
    """Field of the answer that is a probability; a label is then true or false, and outcomes are tp, fp, fn, tn."""
    threshold: Share = 0.5
    """A score of at least this is a positive prediction."""
    unsure: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    """Answers whose score is nearer to the threshold than this are always kept; 0 = none are."""
    choice: str | None = None
    """Field of the answer that is one of several classes; outcomes are correct and wrong."""
    number: str | None = None
    """Field of the answer that is a number; outcomes are correct and wrong."""
    tolerance: Annotated[float, Meta(ge=0)] = 0.0
    """A number that is at most this far from its label is correct."""

    def __post_init__(self) -> None:
        judged = [name for name in ("score", "choice", "number") if getattr(self, name) is not None]
        if len(judged) > 1:
            raise ValueError(f"`{judged[0]}` and `{judged[1]}` are both given, expected one of score, choice, number")
        if self.unsure and self.score is None:
            raise ValueError("`unsure` is given without `score`, expected the field of the answer that is a score")


class CaptureConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[runtime.capture]` table."""

    enabled: bool = False
    folder: str | None = None
    """Where captured requests are kept; a folder of its own, for the service's user alone (mode 0700)."""
    rate: Share = 0.01
    """Share of the requests that is captured, chosen by a hash of the request's id."""
    errors: bool = True
    """Capture every request that ended with status 500 or above."""
    max_bytes: Bytes = 10_000_000_000
    """Bytes in the folder; beyond, the oldest hours go."""
    retention_days: Days = 30
    """Hours older than this are deleted."""
    subject_header: str | None = None
    """Header that names the person a request is about, for the right to forget; stored as a pseudonym only."""
    subject_field: str | None = None
    """Or the field of the row that does."""
    key_file: str | None = None
    """Keys of the pseudonyms; None = the folder's name with `.keys` behind it, beside the folder."""
    key_days: Days = 90
    """Age at which a key gets a successor; pseudonyms of different keys cannot be linked."""
    ring_records: Annotated[int, Meta(ge=1, le=1_000_000)] = 4_096
    """Records that wait for the disk in one process; beyond, they are dropped."""
    ring_bytes: Bytes = 64_000_000
    """Bytes of text, bytes and lists in those records, about."""
    segment_bytes: Bytes = 16_000_000
    """A segment is closed when it is this long."""
    segment_s: Seconds = 60.0
    """Or this old; a closed segment can become Parquet."""
    compact_s: Seconds = 300.0
    """Seconds between two compactions."""
    models: dict[str, ModelCapture] = {}

    def __post_init__(self) -> None:
        if self.enabled and not self.folder:
            raise ValueError("`enabled` is true and `folder` is not given, expected the folder to capture into")
        if self.subject_header is not None and self.subject_field is not None:
            raise ValueError("`subject_header` and `subject_field` are both given, expected one")

    def rate_of(self, model: str) -> float:
        """The share of `model`'s requests that is captured."""
        own = self.models.get(model)
        return self.rate if own is None or own.rate is None else own.rate
