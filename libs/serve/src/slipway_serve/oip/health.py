"""The standard health service of gRPC (`grpc.health.v1`), as Kubernetes and load balancers ask it.

Readiness is looked up when it is asked, never stored. The messages are those of grpcio-health-checking; its servicer is
not used, because it tells a second watcher nothing after the first has left. Source:
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from slipway_serve.oip.messages import parsed
from slipway_serve.oip.status import code_of, message_of
from slipway_serve.problems import Problem

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # raw bytes here, messages elsewhere

SERVICE: Final = "grpc.health.v1.Health"
Status = health_pb2.HealthCheckResponse


class Health:
    """Answers `Check` and `Watch` for the server as a whole (`""`) and for each name in `services`.

    Args:
        services: gRPC service names that have the server's own health.
        is_ready: the truth now.
        leaving: set when the server begins to drain; watchers are told then.
    """

    def __init__(self, services: tuple[str, ...], is_ready: Callable[[], bool], leaving: asyncio.Event) -> None:
        self._services = frozenset(("", *services))
        self._is_ready = is_ready
        self._leaving = leaving

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            },
        )

    async def check(self, raw: bytes, context: Context) -> bytes:
        """The health now; NOT_FOUND for a service that is not here."""
        service = await self._asked(raw, context)
        if service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {service[:200]!r} is served here")
        return self._state()

    async def watch(self, raw: bytes, context: Context) -> None:
        """The health now and at each change, until the client leaves; there is one change, the drain."""
        service = await self._asked(raw, context)
        if service not in self._services:
            await context.write(Status(status=Status.SERVICE_UNKNOWN).SerializeToString())
        else:
            await context.write(self._state())
        await self._leaving.wait()
        if service in self._services:
            await context.write(self._state())

    async def _asked(self, raw: bytes, context: Context) -> str:
        try:
            return parsed(health_pb2.HealthCheckRequest, raw).service
        except Problem as problem:
            await context.abort(code_of(problem), message_of(problem))

    def _state(self) -> bytes:
        is_serving = self._is_ready() and not self._leaving.is_set()
        return Status(status=Status.SERVING if is_serving else Status.NOT_SERVING).SerializeToString()
