"""Which arm a key goes to: weighted rendezvous hashing. Pure.

Each arm draws a number from the key, its own name and the salt; the arm with the highest score, `-weight / ln(draw)`,
has the key. The invariants: an arm has its weight's share of the keys; the same key, salt and weights give the same
arm, in any process; raising one weight moves keys only to that arm, lowering one only away from it.
Sources: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates (IEEE/ACM ToN 1998); Resch, New Hashing
Algorithms for Data Storage (SNIA 2015) for the weights.
"""

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

__all__ = ["STABLE", "assign", "draw"]

STABLE: Final = "stable"
"""The arm that others are judged by, and that stands in for them."""

ROOM: Final = 2.0**-64


def assign(key: bytes, weights: Mapping[str, float], salt: bytes = b"") -> str:
    """The arm of a key; about 2 µs an arm.

    Args:
        key: what stays together: a user, an account.
        weights: arm → weight, at least 0 and one of them above it; they need no common sum.
        salt: another one assigns everybody anew. At most 64 bytes count.

    Raises:
        ValueError: no weight is above 0.
    """
    best, highest = None, -math.inf
    for arm, weight in weights.items():
        if weight <= 0:
            continue
        digest = blake2b(arm.encode() + b"\0" + key, digest_size=8, key=salt[:64]).digest()
        drawn = (int.from_bytes(digest, "big") + 0.5) * ROOM
        score = -weight / math.log(drawn) if drawn < 1.0 else math.inf
        if score > highest:
            best, highest = arm, score
    if best is None:
        raise ValueError("no arm has a weight above 0")
    return best


def draw(chance: float, weights: Mapping[str, float]) -> str:
    """The arm that a number in [0, 1) falls to, when nothing of the request stays together.

    Raises:
        ValueError: no weight is above 0.
    """
    left = chance * sum(weights.values())
    last = None
    for arm, weight in weights.items():
        if weight <= 0:
            continue
        last = arm
        left -= weight
        if left < 0:
            return arm
    if last is None:
        raise ValueError("no arm has a weight above 0")
    return last
