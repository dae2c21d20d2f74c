"""Who may roll out next: one reload or swap at a time, each under a generation of its own.

It rolls nothing out (`rolling`). The invariants: a swap that was accepted will be begun, unless the supervisor stops; a
swap that cannot be begun at once is refused, because its caller waits for an answer; a reload that comes meanwhile is
remembered, because a signal cannot be refused, and many are one. Thread-safe.
"""

import threading
from collections.abc import Sequence

import msgspec

from slipway_bundle.errors import HostError
from slipway_runtime.supervision import RolloutKind, WorkerSpec

__all__ = ["Order", "Orders", "SwapBusyError"]


class SwapBusyError(HostError):
    """A swap was asked for while another swap or a reload is running, or while the supervisor stops."""

    code = "swap_busy"


class Order(msgspec.Struct, frozen=True):
    """What is to be rolled out."""

    kind: RolloutKind
    generation: int
    specs: tuple[WorkerSpec, ...]
    """Every worker of the new generation; those that do not roll count only when there is none of their name yet."""
    token: str = ""


class Orders:
    """The order that waits or is carried out, and whether a reload was asked for meanwhile.

    Args:
        specs: The workers of generation 0.

    Raises:
        ValueError: when there is no worker, or two have one name.
    """

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self._front = _front(specs)
        self._lock = threading.Lock()
        self._generation = 0
        self._is_taken = False
        self._waiting: Order | None = None
        self._reload_again = False
        self._is_closed = False

    @property
    def is_taken(self) -> bool:
        """Whether a reload or swap runs, or is about to."""
        return self._is_taken

    def swap(self, specs: Sequence[WorkerSpec], token: str) -> Order:
        """Order a swap.

        Raises:
            SwapBusyError: when it is not its turn.
            ValueError: when the workers of stage 0 are others than before.
        """
        front = _front(specs)
        if front != self._front:
            raise ValueError(
                "this is a bug in slipway: a swap keeps the API workers, whose sockets are open: "
                f"expected {sorted(self._front)}, got {sorted(front)}"
            )
        with self._lock:
            if self._is_closed:
                raise SwapBusyError("the swap was refused: the server is stopping")
            if self._is_taken:
                raise SwapBusyError(
                    f"the swap was refused: another swap or reload is running (generation {self._generation})",
                    hint="`/debug/rollout` on the admin port says how far it is; try again when it is over",
                    generation=self._generation,
                )
            return self._take("swap", tuple(specs), token)

    def reload(self, specs: Sequence[WorkerSpec]) -> None:
        """Order a reload: now, or after what runs."""
        with self._lock:
            if self._is_taken:
                self._reload_again = True
            else:
                self._take("reload", tuple(specs), "")

    def begin(self) -> Order | None:
        """The order to carry out now, once; None when there is none."""
        with self._lock:
            order, self._waiting = self._waiting, None
            return order

    def done(self) -> bool:
        """The order was carried out, or failed. Whether a reload was asked for meanwhile."""
        with self._lock:
            again, self._reload_again = self._reload_again, False
            self._is_taken = False
            return again

    def close(self) -> None:
        """Take no further orders; forget the one that waits."""
        with self._lock:
            self._is_closed = True
            self._waiting = None

    def _take(self, kind: RolloutKind, specs: tuple[WorkerSpec, ...], token: str) -> Order:
        self._is_taken = True
        self._generation += 1
        self._waiting = Order(kind, self._generation, specs, token)
        return self._waiting


def _front(specs: Sequence[WorkerSpec]) -> frozenset[str]:
    """The names of the API workers."""
    if len({one.name for one in specs}) != len(specs) or not specs:
        raise ValueError("this is a bug in slipway: workers need unique names, and there must be one")
    return frozenset(one.name for one in specs if one.stage == 0)
