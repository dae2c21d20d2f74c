"""What a captured request looks like in a segment, and the columns that its values become.

Stored formats: fields are only ever added, with defaults, at the end. The invariant: whoever has a folder can read it,
because each segment, and each Parquet file, carries the columns, the policy and the way its model is judged.
"""

import hashlib
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from slipway_bundle.redaction import Action, ValueKind

__all__ = ["KEPT", "Column", "Judge", "ModelFormat", "Record", "decode_record", "encode_format", "encode_record"]

ColumnType = Literal["bool", "int64", "float64", "string", "binary"]
Kept = Literal["sample", "error", "unsure"]

KEPT: Final[tuple[Kept, ...]] = ("sample", "error", "unsure")
"""Why a request was captured; its place here is what a record holds. Only the sample is representative."""


class Column(Struct, frozen=True, kw_only=True):
    """One value of a row or of an answer."""

    name: str
    """As in the Struct, with what was done behind it: `email.hash`, `comment.length`; nothing when it was kept."""
    type: ColumnType
    depth: int = 0
    """Lists around the value."""
    kind: ValueKind = "other"
    action: Action = "keep"


class Judge(Struct, frozen=True, kw_only=True):
    """How a label is compared with an answer."""

    column: str
    """Column of the prediction."""
    kind: Literal["score", "choice", "number"]
    threshold: float = 0.5
    tolerance: float = 0.0


class ModelFormat(Struct, frozen=True, kw_only=True):
    """What is the same in all records of one version of a model."""

    model: str
    version: str
    features: tuple[Column, ...]
    prediction: tuple[Column, ...]
    rate: float = 1.0
    judge: Judge | None = None
    place: int = 0
    """What the records of this segment call it."""

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name the columns; equal ones can be read as one table."""
        return hashlib.sha256(msgspec.json.encode((self.features, self.prediction))).hexdigest()[:12]


class Record(Struct, array_like=True, kw_only=True):
    """One captured request. `Any`: what the columns say."""

    model: int
    """Place of its format, which stands before it in the segment."""
    ts: float
    """Seconds since the epoch, of the answer."""
    request_id: str
    trace_id: str | None
    subject_key: str | None
    """Pseudonym of the person it is about."""
    status: int
    latency_s: float
    kept: int
    """Place in `KEPT`."""
    sample_weight: float
    """How many requests it stands for: 1 / its chance to be captured."""
    is_cut: bool
    """Something was too long or too large to be stored whole."""
    features: list[Any] | None
    """In the order of the columns; None when there was no row, or it was cut."""
    prediction: list[Any] | None


_TAG_FORMAT: Final = b"F"
_TAG_RECORD: Final = b"R"
_encoder: Final = msgspec.msgpack.Encoder()
_record_decoder: Final = msgspec.msgpack.Decoder(Record)
_format_decoder: Final = msgspec.msgpack.Decoder(ModelFormat)


def encode_format(model: ModelFormat) -> bytes:
    """The body of a frame that says what the records after it look like."""
    return _TAG_FORMAT + _encoder.encode(model)


def encode_record(record: Record) -> bytes:
    """The body of a frame. UnicodeEncodeError, OverflowError: a value cannot be stored."""
    return _TAG_RECORD + _encoder.encode(record)


def decode_record(body: memoryview) -> ModelFormat | Record:
    """What a frame holds; msgspec.MsgspecError when it is no frame of ours."""
    return _format_decoder.decode(body[1:]) if bytes(body[:1]) == _TAG_FORMAT else _record_decoder.decode(body[1:])
