"""How many fields a request's bytes hold, counted before they are parsed.

Protobuf makes an object of every two bytes of an empty message, and a hash entry of every eight of a map: 8 MiB of them
hold the event loop for seconds and take hundreds of megabytes, for a request that is refused anyway. Looking at the
tags alone costs nothing of that. It judges no value; bytes that are no message are left to the parser. The invariant:
what passes has at most MOST fields outside its tensors' data, or at most SMALL_BYTES bytes. Source:
https://protobuf.dev/programming-guides/encoding/
"""

from typing import Final

from slipway_serve.problems import Problem

SMALL_BYTES: Final = 16 * 1024
"""Too few for harm: they are not looked at."""
MOST: Final = 4_096
"""A tensor has some five fields; nobody sends hundreds of tensors."""
NESTED: Final = frozenset({5, 6})
"""`inputs` and `outputs` of ModelInferRequest: what is in them counts too, except for the contents' own elements."""

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


def check_fields(raw: bytes) -> None:
    """Look through a ModelInferRequest; O(fields), at most MOST of them.

    Raises:
        Problem: 400; there are more, or a group, which the protocol does not have.
    """
    if len(raw) <= SMALL_BYTES:
        return
    left = MOST
    spans = [(0, len(raw), True)]
    while spans:
        at, end, is_top = spans.pop()
        while at < end:
            left -= 1
            key, at = _varint(raw, at)
            kind = key & 7
            if kind == DELIMITED:
                size, at = _varint(raw, at)
                if is_top and key >> 3 in NESTED:
                    spans.append((at, min(at + size, end), False))
                at += size
            elif kind == VARINT:
                _, at = _varint(raw, at)
            elif kind in {FIXED64, FIXED32}:
                at += 8 if kind == FIXED64 else 4
            else:
                left = -1
            if left < 0:
                raise Problem(400, "protobuf_invalid", f"the message has too many fields, expected at most {MOST}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends; a number that is none ends with the bytes."""
    value = shift = 0
    for index in range(at, min(at + 10, len(raw))):
        value |= (raw[index] & 0x7F) << shift
        if raw[index] < 0x80:
            return value, index + 1
        shift += 7
    return value, len(raw)
