"""A model with a programmable cost, and an observer that remembers: fakes of the runtime's own protocols."""

from collections.abc import Callable, Sequence
from typing import Any

from runtime_clock import VirtualLoop

from slipway_runtime.observer import SendReason

POISON = b"poison"


class FakeModel:
    """Answers the payloads themselves; raises when one of them starts with POISON; remembers every call."""

    def __init__(self, loop: VirtualLoop, cost: Callable[[int], float] = lambda rows: 0.0001) -> None:
        self.loop = loop
        self.cost = cost
        self.calls: list[tuple[list[bytes], int]] = []
        self.before: Callable[[Sequence[bytes], int], None] = lambda payloads, rows: None

    def __call__(self, payloads: Sequence[bytes], rows: int) -> object:
        self.before(payloads, rows)
        self.calls.append((list(payloads), rows))
        self.loop.spend(self.cost(rows))
        if any(payload.startswith(POISON) for payload in payloads):
            raise ValueError("bad row")
        return list(payloads)

    @property
    def computed(self) -> list[bytes]:
        return [payload for payloads, _ in self.calls for payload in payloads]


class Recorder:
    """Remembers the events of a pool as tuples."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def admitted(self, model: str) -> None:
        self.events.append(("admitted", model))

    def refused(self, model: str, reason: str) -> None:
        self.events.append(("refused", model, reason))

    def expired(self, model: str, rows: int) -> None:
        self.events.append(("expired", model, rows))

    def cancelled(self, model: str, rows: int) -> None:
        self.events.append(("cancelled", model, rows))

    def answered(self, model: str, rows: int) -> None:
        self.events.append(("answered", model, rows))

    def batch(self, model: str, rows: int, waited_s: float, compute_s: float, reason: SendReason) -> None:
        self.events.append(("batch", model, rows, waited_s, compute_s, reason))

    def failed(self, model: str, rows: int) -> None:
        self.events.append(("failed", model, rows))
