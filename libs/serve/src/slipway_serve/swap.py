"""Hot swap: another bundle in the place of one that serves, while requests go on.

It replaces no process itself (`slipway_runtime.rolling` does). The invariants: what serves and what is about to is
pinned in the store, so that no garbage collection takes it; one swap at a time; a swap that fails leaves what served.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle import HostError, Policy, SlipwayError, Store, UsageError
from slipway_runtime.orders import SwapBusyError
from slipway_runtime.supervision import RolloutKind, SupervisorEvent
from slipway_runtime.supervisor import Supervisor
from slipway_serve.config import load_runtime
from slipway_serve.tree import Service, Tree
from slipway_serve.trusted import open_allowed
from slipway_signals.actions import problem

JSON: Final = "application/json"
Answer = tuple[int, bytes, str]


class SwapRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /swap`."""

    target: str
    """A bundle reference, or a service folder."""
    service: str | None = None
    """Which of several services it replaces; by default the one of the same name."""


class SwapBegun(Struct, frozen=True, rename={"old": "from", "new": "to"}):
    """The answer to it."""

    generation: int
    old: str
    new: str


class RolloutPage(Struct, frozen=True, kw_only=True, rename={"old": "from", "new": "to"}):
    """`GET /debug/rollout`: the reload or swap that runs, or the last one."""

    kind: RolloutKind | None = None
    phase: str = "over"
    generation: int = 0
    outcome: str | None = None
    message: str = ""
    old: str | None = None
    new: str | None = None


class _Swap(Struct):
    """One that was begun."""

    services: tuple[Service, ...]
    old: str
    new: str
    pins: ExitStack


class Swapper:
    """Carries out `POST /swap` on the admin port. Thread-safe: the admin port asks, the supervisor's thread tells."""

    def __init__(
        self,
        supervisor: Supervisor,
        tree: Tree,
        services: Sequence[Service],
        store: Path,
        environment: Mapping[str, str],
        policy: Policy = Policy(),  # noqa: B008 - frozen
    ) -> None:
        self._supervisor = supervisor
        self._tree = tree
        self._services = tuple(services)
        self._store = store
        self._environment = environment
        self._policy = policy
        self._lock = threading.Lock()
        self._swap: _Swap | None = None
        self._last: _Swap | None = None
        self._pins = ExitStack()
        """Of what serves, as far as swaps brought it."""

    def swap(self, body: bytes) -> Answer:
        """Begin a swap; answers once the new processes are on their way."""
        try:
            request = msgspec.json.decode(body, type=SwapRequest)
            with self._lock:
                return 202, msgspec.json.encode(self._begin(request)), JSON
        except msgspec.DecodeError as error:
            return problem(400, "swap_invalid", f"the body is not a swap: {error}", 'send {"target": "NAME:VERSION"}')
        except SlipwayError as error:
            status = 409 if error.code == "swap_busy" else 500 if isinstance(error, HostError) else 422
            return problem(status, error.code, error.message, error.hint)

    def page(self) -> Answer:
        """The rollout that runs, or the last one."""
        rollout = self._supervisor.statistics().rollout
        with self._lock:
            swap = self._swap or self._last
        if rollout is None:
            return 200, msgspec.json.encode(RolloutPage()), JSON
        is_swap = rollout.kind == "swap" and swap is not None
        page = RolloutPage(
            kind=rollout.kind,
            phase=rollout.phase,
            generation=rollout.generation,
            outcome=rollout.outcome,
            message=rollout.message,
            old=swap.old if is_swap and swap else None,
            new=swap.new if is_swap and swap else None,
        )
        return 200, msgspec.json.encode(page), JSON

    def on_event(self, event: SupervisorEvent) -> None:
        """Hear of the end of a swap; in the supervisor's thread."""
        if event.kind not in {"swapped", "swap_failed"}:
            return
        with self._lock:
            swap, self._swap = self._swap, None
            if swap is None:
                return
            self._last = swap
            if event.kind == "swapped":
                self._pins.close()
                self._services, self._pins = swap.services, swap.pins
            else:
                swap.pins.close()

    @property
    def services(self) -> tuple[Service, ...]:
        """What serves, by the last swap that succeeded."""
        return self._services

    def close(self) -> None:
        """Let go of the pins."""
        with self._lock:
            self._pins.close()
            if self._swap is not None:
                self._swap.pins.close()

    def _begin(self, request: SwapRequest) -> SwapBegun:
        if self._swap is not None:
            raise SwapBusyError("a swap is running", hint="wait for it: GET /debug/rollout tells how far it is")
        store = Store.open(self._store)
        fresh = _service(request.target, store, self._environment, self._policy)
        place = self._place_of(request.service or fresh.view.name)
        old = self._services[place]
        services = (*self._services[:place], fresh, *self._services[place + 1 :])
        specs = self._tree.specs(services)
        with ExitStack() as pins:
            for service in services:
                if service.view.digest is not None:
                    pins.enter_context(store.pin(store.find(service.target).descriptor))
            self._swap = _Swap(services, _name(old), _name(fresh), pins.pop_all())
        try:
            generation = self._supervisor.swap(specs)
        except SlipwayError:
            self._swap.pins.close()
            self._swap = None
            raise
        return SwapBegun(generation, _name(old), _name(fresh))

    def _place_of(self, name: str) -> int:
        for place, service in enumerate(self._services):
            if service.view.name == name:
                return place
        served = [service.view.name for service in self._services]
        raise UsageError(
            f"no service {name!r} is served here, expected one of {served}",
            hint="name the one to replace with `--service`",
        )


def _service(target: str, store: Store, environment: Mapping[str, str], policy: Policy) -> Service:
    view = open_allowed(target, store, policy)
    runtime, _ = load_runtime(view.runtime, environment, {})
    exact = target if view.digest is None else f"{view.name}@{view.digest}"
    return Service(exact, view, runtime)


def _name(service: Service) -> str:
    return service.view.digest or service.target
