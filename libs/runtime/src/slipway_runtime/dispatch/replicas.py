"""Who computes: replicas, the pools they belong to, and the devices that pools share.

It keeps no queue and decides no batch. The invariants: at most `spec.replicas` of a pool are active, further ones are
standby, and a standby takes the place of an active replica that leaves; a replica has at most `spec.in_flight` batches,
and a suspect ticket has its replica to itself.
"""

import math
import sys
from typing import TYPE_CHECKING, Literal

from slipway_runtime.admission import Slots
from slipway_runtime.dispatch.fairness import Share, Turns
from slipway_runtime.dispatch.flow import Flow
from slipway_runtime.dispatch.spec import PoolSpec
from slipway_runtime.queue import TicketQueue

if TYPE_CHECKING:
    from slipway_runtime.dispatch.flights import Flight

__all__ = ["Device", "Replica", "RunnerPool"]


class Replica:
    """One runner process."""

    __slots__ = ("flights", "free_since", "has_suspect", "number", "pool", "role")

    def __init__(self, number: int, pool: "RunnerPool", now: float) -> None:
        self.number = number
        self.pool = pool
        self.role: Literal["active", "standby", "leaving"] = "standby"
        self.flights: dict[int, Flight] = {}
        self.free_since = now
        """When it joined, or gave its last answer."""
        self.has_suspect = False


class Device:
    """What several pools compute on: its limit, whose turn it is, and which models wait for it."""

    __slots__ = ("concurrency", "expires_at", "has_suspects", "name", "pools", "slots", "turns", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pools: dict[str, RunnerPool] = {}
        self.turns = Turns()
        self.waiting: dict[Flow, None] = {}
        self.expires_at = math.inf
        """No ticket that waits has an earlier deadline."""
        self.has_suspects = False
        """Some of its pools may have tickets for a second attempt."""
        self.concurrency = 0
        self.slots = Slots(sys.maxsize)

    def limit(self) -> None:
        """The smallest limit that any of its pools names holds."""
        named = [pool.spec.device_concurrency for pool in self.pools.values() if pool.spec.device_concurrency]
        self.concurrency = min(named, default=0)
        self.slots.count = self.concurrency or sys.maxsize

    def has_room(self) -> bool:
        """Whether one more batch may be in flight on it."""
        return len(self.slots.ends) < self.slots.count

    def waiting_weight(self, pool: "RunnerPool | None") -> float:
        """Weight of the models that have something waiting, of all pools or of one."""
        return sum([flow.share.weight for flow in self.waiting if pool is None or flow.pool is pool])


class RunnerPool:
    """One pool: its replicas, its models, and the tickets that are to be tried once more."""

    __slots__ = (
        *("active", "device", "flows", "is_dropped", "next", "share", "slots", "spec", "standby", "suspects"),
        "turns",
    )

    def __init__(self, spec: PoolSpec, device: Device) -> None:
        self.spec = spec
        self.device = device
        self.flows: dict[str, Flow] = {}
        self.active: list[Replica] = []
        self.standby: list[Replica] = []
        self.next: Replica | None = None
        """The active replica that should get the next batch: the fewest in flight, then the longest free."""
        self.suspects = TicketQueue(sys.maxsize)
        """Bounded by what was in flight: nothing else leaves while a suspect waits."""
        self.share = Share(1.0)
        self.turns = Turns()
        self.slots = Slots()
        self.is_dropped = False

    def respecify(self, spec: PoolSpec) -> None:
        """New limits and models; models that are not named any more stay."""
        self.spec = spec
        for model in spec.models:
            if model.name in self.flows:
                self.flows[model.name].respecify(model)
            else:
                self.flows[model.name] = Flow(self, model)
        self.fill()

    def join(self, replica: Replica) -> bool:
        """A new replica; whether it is active."""
        self.standby.append(replica)
        self.fill()
        return replica.role == "active"

    def leave(self, replica: Replica) -> Replica | None:
        """A replica gets nothing more; the standby that takes its place."""
        was_active = replica.role == "active"
        replica.role = "leaving"
        for side in (self.active, self.standby):
            if replica in side:
                side.remove(replica)
        first = self.standby[0] if was_active and self.standby else None
        self.fill()
        return first if first is not None and first.role == "active" else None

    def fill(self) -> None:
        """As many active as specified, the standby that waited longest first, the active that came last last."""
        while len(self.active) > self.spec.replicas:
            replica = self.active.pop()
            replica.role = "standby"
            self.standby.insert(0, replica)
        while self.standby and len(self.active) < self.spec.replicas:
            replica = self.standby.pop(0)
            replica.role = "active"
            self.active.append(replica)
        self.slots.count = max(1, len(self.active))
        self.choose_next()

    def choose_next(self) -> None:
        """Find `next` again, after a batch left or came back. O(active)."""
        chosen, fewest, since = None, self.spec.in_flight, math.inf
        for replica in self.active:
            flights = len(replica.flights)
            if replica.has_suspect or flights > fewest or (flights == fewest and replica.free_since >= since):
                continue
            if flights < self.spec.in_flight:
                chosen, fewest, since = replica, flights, replica.free_since
        self.next = chosen
