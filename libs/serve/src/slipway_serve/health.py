"""Probes that tell the truth: alive is "this loop answers", ready is "every model has answered a real row here"."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from slipway_serve.engine import Engine
from slipway_serve.routes import Asked, Reply, ServerState


class ServiceState(Struct):
    """Readiness of one service in this worker."""

    service: str
    ready: bool
    digest: str | None
    """The bundle's index digest; null when served from a folder."""


class Readiness(Struct):
    """What `/readyz` answers, with 200 or 503."""

    ready: bool
    draining: bool
    services: list[ServiceState]


class Livez:
    """`GET /livez`: 200 as long as the event loop runs."""

    async def __call__(self, asked: Asked) -> Reply:  # noqa: ARG002  # Handler
        """Always the same bytes."""
        return Reply(b'{"alive":true}')


class Readyz:
    """`GET /readyz`: 200 when every service proved itself and none is draining, else 503."""

    def __init__(self, engines: Sequence[Engine], server: ServerState) -> None:
        self._engines = engines
        self._server = server

    def state(self) -> Readiness:
        """The readiness now."""
        services = [ServiceState(e.service.name, e.is_ready, e.view.digest) for e in self._engines]
        draining = self._server.is_draining
        return Readiness(all(s.ready for s in services) and not draining, draining, services)

    async def __call__(self, asked: Asked) -> Reply:  # noqa: ARG002  # Handler
        """The readiness as JSON."""
        state = self.state()
        return Reply(msgspec.json.encode(state), status=200 if state.ready else 503)
