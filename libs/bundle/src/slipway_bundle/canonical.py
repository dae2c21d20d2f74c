"""Canonical JSON out, strict JSON in: the only reader and writer of documents that have a digest.

It knows no document type. The invariants: what `canonical_json` writes is RFC 8785, so equal values have equal
bytes; what `decode_json` accepts means one thing only, in every parser (no duplicate key, no NaN, no integer beyond
2**53 - 1, no lone surrogate, no second encoding).
Source: RFC 8785 (JCS), RFC 7493 (I-JSON); sizes from OCI distribution-spec, "Pushing manifests" (4 MiB).
"""

import json
import math
from typing import NoReturn, TypeVar

import msgspec
import rfc8785

from slipway_bundle.store_errors import JsonError

T = TypeVar("T")

MAX_JSON_BYTES = 4 * 1024 * 1024
"""Registries refuse larger manifests, so no document of a bundle may be larger."""

MAX_INTEGER = 2**53 - 1
"""RFC 7493: beyond it, two parsers may read two numbers."""

_MAX_INTEGER_DIGITS = 16


def canonical_json(value: object) -> bytes:
    """`value` (Structs, mappings, sequences, scalars) as RFC 8785 bytes, without a final line feed.

    Raises:
        JsonError: A number beyond 2**53 - 1 that RFC 8785 writes as an integer (1e18 is one), NaN or infinity, or a
            string that is not Unicode.
    """
    try:
        data = rfc8785.dumps(msgspec.to_builtins(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise JsonError(f"a value cannot be written as canonical JSON: {error}") from error
    # RFC 8785 writes the float 2.0**53 as 9007199254740992: what the reader below refuses must not be written.
    _scan(data, what="a value that should become canonical JSON", max_bytes=len(data))
    return data


def decode_json(data: bytes, type_: type[T], *, what: str, max_bytes: int = MAX_JSON_BYTES) -> T:
    """`data` as a `type_`.

    Args:
        data: UTF-8, without byte order mark.
        type_: What it must be, a msgspec type. Unknown fields follow that type's own rule.
        what: Names the document in messages, for example "manifest sha256:ab12…".
        max_bytes: Longer documents are refused before they are parsed.

    Raises:
        JsonError: Too long, not JSON, ambiguous JSON, or not a `type_`; the message names the JSON path.
    """
    _scan(data, what=what, max_bytes=max_bytes)
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise JsonError(f"{what} does not have the expected shape: {error}") from error


def _scan(data: bytes, *, what: str, max_bytes: int) -> None:
    """Refuse what the fast decoder would let through; the parsed value is thrown away."""
    if len(data) > max_bytes:
        raise JsonError(f"{what} is too long: got {len(data)} bytes, expected at most {max_bytes}")
    try:
        text = data.decode("utf-8")
        # The strictness sits in the hooks: the stdlib alone keeps the last of two equal keys, as msgspec does.
        parsed = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_bounded_integer,
            parse_float=_finite_float,
        )
        if "\\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise JsonError(f"{what} is not strict JSON: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "a string holds half of a surrogate pair"
    return str(error)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return members


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _bounded_integer(digits: str) -> int:
    # Length first: int() of a million digits is slow and its own limit differs between interpreters.
    if len(digits.lstrip("-")) > _MAX_INTEGER_DIGITS or abs(int(digits)) > MAX_INTEGER:
        raise ValueError(f"integer of {len(digits)} characters is beyond 2**53 - 1")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"number {digits[:32]} is too large for a float")
    return value
