"""One configuration in force: its arms, their shares, and the choice for each request. Sends nothing.

The invariants: an arm without a share is only named by trusted callers; who names one and is not trusted is told so and
reaches none; shares change only through `share`.
"""

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from slipway_serve.access.keys import Keys
from slipway_serve.problems import Problem
from slipway_serve.split.arm_client import ArmClient
from slipway_serve.split.assignment import assign, draw
from slipway_serve.split.config import Paths, SplitConfig
from slipway_serve.split.request import ARM_HEADER, Request, Sticky
from slipway_serve.watching import SYNTHETIC_HEADER

if TYPE_CHECKING:
    from slipway_signals.metrics_split import Chosen

__all__ = ["Routing"]

BEARER: Final = b"bearer "


class Routing:
    """Who goes where.

    Args:
        config: in force.
        clients: arm → its connections.
        keys: of trusted callers; asked anew each time.
        chance: a number in [0, 1).
    """

    def __init__(
        self,
        config: SplitConfig,
        clients: Mapping[str, ArmClient],
        keys: Callable[[], Keys],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.config: Final = config
        self.clients: Final = clients
        self.repeatable: Final = Paths(config.repeatable)
        self.judged: Final = Paths(config.judged)
        self.weights: dict[str, float] = {}
        self.share(config.weights)
        self._keys = keys
        self._chance = chance
        self._sticky = None if config.sticky is None else Sticky(config.sticky)
        override = config.override
        self._override = None if override is None else override.header.lower().encode()
        dropped = {ARM_HEADER} if self._override is None else {ARM_HEADER, self._override}
        self.dropped: Final = frozenset(dropped if config.server.trust_synthetic else dropped | {SYNTHETIC_HEADER})
        """Headers of a request that stop here."""

    def share(self, weights: Mapping[str, float]) -> None:
        """Change the shares, made to add up to 1."""
        total = sum(weights.values())
        self.weights = {arm: weight / total for arm, weight in weights.items()}

    def choose(self, request: Request) -> "tuple[str, Chosen]":
        """The arm of a request, and why.

        Raises:
            Problem: it names an arm and may not, or there is none of that name.
        """
        if self._override is not None and (named := request.header(self._override)) is not None:
            return self._named(request, named), "override"
        if self._sticky is not None and (key := self._sticky.key(request)) is not None:
            return assign(key, self.weights, self._sticky.salt), "sticky"
        return draw(self._chance(), self.weights), "weight"

    def is_judged(self, request: Request, chosen: "Chosen") -> bool:
        """Whether its answer counts: a user's, at a judged path, at an arm that chance or its key gave it."""
        if request.method != "POST" or chosen in {"override", "fallback"} or not self.judged.has(request.path):
            return False
        return not (self.config.server.trust_synthetic and request.is_synthetic)

    def _named(self, request: Request, named: bytes) -> str:
        override = self.config.override
        sent = request.header(b"x-api-key") or _bearer(request.header(b"authorization"))
        entry = None if sent is None else self._keys().find(sent)
        if entry is None or override is None or entry.is_expired(datetime.now(UTC)):
            raise Problem(403, "override_refused", "the request names an arm, and its caller has no valid API key")
        if override.scope not in entry.scopes:
            raise Problem(403, "override_refused", f"the caller's API key has not the scope {override.scope!r}")
        arm = named.decode("latin-1")
        if arm not in self.clients:
            raise Problem(
                400, "arm_unknown", f"there is no arm {arm[:64]!r}, expected one of {', '.join(self.clients)}"
            )
        return arm


def _bearer(value: bytes | None) -> bytes | None:
    return value[len(BEARER) :] if value is not None and value[: len(BEARER)].lower() == BEARER else None
