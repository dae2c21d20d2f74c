"""Looks at an ONNX file's protobuf before onnxruntime does: is it one, and does it point outside itself?

A tensor may say "my bytes are in that file"; a path in a model is a path on the server, so such models are refused.
It decodes nothing else and needs no protobuf library: wire types and lengths are enough to walk. The invariant: any
input gives an answer or a WeightsFormatError, and tensor bytes are skipped, not read.
Source: onnx/onnx.proto (field numbers), https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

from slipway_bundle.weights import WeightsFormatError

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_DEPTH_LIMIT = 64
_IR_VERSION, _GRAPH = 1, 7
_GRAPH_TAG = bytes([_GRAPH << 3 | _LEN])
_MODEL_FIELDS = {1: _VARINT, 2: _LEN, 3: _LEN, 4: _LEN, 5: _VARINT, 6: _LEN, 7: _LEN, 8: _LEN, 14: _LEN, 20: _LEN,
                 25: _LEN, 26: _LEN}  # fmt: skip
"""`ModelProto`: field number -> wire type."""

_TENSOR = "tensor"
_BELOW: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
"""Message -> the fields under which a tensor may be found."""

_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1


def looks_like_model(head: bytes) -> bool:
    """Whether the first bytes are those of a `ModelProto`: its version first, then fields that it has."""
    seen: list[int] = []
    try:
        for field, kind, value, _ in _fields(head, 0, len(head)):
            if _MODEL_FIELDS.get(field) != kind or (not seen and not (field == _IR_VERSION and 1 <= value <= 64)):
                return False
            seen.append(field)
    except WeightsFormatError:  # the head ends inside a field, which may be the second: then its tag must say it
        return _GRAPH in seen or len(seen) > 1 or (seen == [_IR_VERSION] and head[2:3] == _GRAPH_TAG)
    return _GRAPH in seen


def check_model(data: bytes | memoryview) -> None:
    """Walks a whole model.

    Raises:
        WeightsFormatError: It is not a model, is truncated, or holds a tensor in another file.
    """
    fields = {}
    for field, kind, _, _ in _fields(data, 0, len(data)):
        if _MODEL_FIELDS.get(field, kind) != kind:
            raise WeightsFormatError(f"the file is not an ONNX model: field {field} has the wire type {kind}")
        fields[field] = kind
    if _IR_VERSION not in fields or _GRAPH not in fields:
        raise WeightsFormatError("the file is not an ONNX model: it has no version or no graph")
    _walk(data, 0, len(data), "model", 0)


def _walk(data: bytes | memoryview, start: int, end: int, message: str, depth: int) -> None:
    if depth > _DEPTH_LIMIT:
        raise WeightsFormatError(f"the ONNX model is nested deeper than {_DEPTH_LIMIT}")
    below = _BELOW.get(message, {})
    for field, kind, value, at in _fields(data, start, end):
        if message == _TENSOR and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value == _EXTERNAL)):
            raise WeightsFormatError(
                "the ONNX model keeps tensors in another file, expected one file",
                hint="save it with `onnx.save_model(model, path, save_as_external_data=False)`",
            )
        if kind == _LEN and field in below:
            _walk(data, at, at + value, below[field], depth + 1)


def _fields(data: bytes | memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Field number, wire type, value (or length) and where its bytes start, of each field of one message."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        field, kind, value = tag >> 3, tag & 7, 0
        if kind in {_VARINT, _LEN}:
            value, at = _varint(data, at, end)
        elif kind in {_I64, _I32}:
            value = 8 if kind == _I64 else 4
        else:
            raise WeightsFormatError(f"the ONNX model is malformed: wire type {kind} at byte {at} of {len(data)}")
        size = value if kind != _VARINT else 0
        if field == 0 or at + size > end:
            raise WeightsFormatError(f"the ONNX model is truncated or malformed at byte {at} of {len(data)}")
        yield field, kind, value, at
        at += size


def _varint(data: bytes | memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WeightsFormatError(f"the ONNX model is truncated or malformed at byte {at} of {len(data)}")
