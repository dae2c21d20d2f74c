"""What became of one request to an arm. It asks nobody.

The invariant: a body is kept whole or not at all, so nobody takes a part of an answer for the whole.
"""

from typing import Final

from slipway_serve.watching import BUNDLE_HEADER
from slipway_signals.gate.answers import Leaves, read_answer
from slipway_signals.gate.tally import UNREAD

__all__ = ["READ_BYTES", "Answered"]

READ_BYTES: Final = 256 * 1024
"""Answers up to this size are kept to be looked into; larger ones and streams only pass through."""


class Answered:
    """What became of one request to an arm."""

    __slots__ = ("_kept", "body", "headers", "latency_us", "reason", "size", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.latency_us = 0
        self.reason: str | None = None
        """Why there is no answer: `timeout`, `connection`, `client_left`, …"""
        self.body: bytes | None = None
        """None: it was too large to keep, or is not here yet."""
        self.size = 0
        self._kept: list[bytes] = []

    def keep(self, chunk: bytes) -> None:
        """Remember a piece of the body, unless that is too much."""
        self.size += len(chunk)
        if self.size <= READ_BYTES:
            self._kept.append(chunk)

    def end(self) -> None:
        """All of it was seen."""
        if self.size <= READ_BYTES:
            self.body = b"".join(self._kept)

    @property
    def failure(self) -> str | None:
        """Why it counts as failed: no answer, 429 or 5xx; None: it succeeded. A client's own mistake is no failure."""
        if self.reason is not None:
            return self.reason
        return f"http_{self.status}" if self.status >= 500 or self.status == 429 else None

    @property
    def digest(self) -> str:
        """Of the bundle that answered; "": it did not say."""
        return next((value.decode("latin-1") for name, value in self.headers if name == BUNDLE_HEADER), "")

    def leaves(self) -> Leaves | None:
        """What it says; None: it is no JSON although it says so. `UNREAD`: no good answer, too large, another form."""
        if self.body is None or self.status >= 300 or not self._is_json():
            return UNREAD
        return read_answer(self.body)

    def _is_json(self) -> bool:
        for name, value in self.headers:
            if name == b"content-type":
                essence = value.split(b";", 1)[0].strip().lower()
                return essence == b"application/json" or essence.endswith(b"+json")
        return False
