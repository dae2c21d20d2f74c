"""Wiring: services and their engines become one ASGI application. No logic lives here.

Every route is one of our raw ASGI `Route`s, so that a page, a probe and a prediction are measured, limited and refused
in the same way. An exact path is found by one dictionary look-up; everything else is Litestar's to normalise, route or
refuse. (Mounted in Litestar, a request of the hot path costs 8 µs more, of 55 in all: docs/adr/0011.)
"""

from collections.abc import Sequence
from typing import Any, Final

from litestar import Litestar, Request, Response, asgi
from litestar.exceptions import HTTPException
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend

from slipway_bundle import ConfigError
from slipway_serve.engine import Engine
from slipway_serve.handlers import service_routes
from slipway_serve.health import Livez, Readyz
from slipway_serve.inference import Unpublished, inference_routes, published_models
from slipway_serve.openapi import document_of
from slipway_serve.pages import page_routes
from slipway_serve.problems import Problem, body_of, problem_of
from slipway_serve.protocol import protocol_body_of
from slipway_serve.routes import Route, ServerState, problem_headers
from slipway_serve.service import RESERVED, TAKEN

PROBE_DEADLINE_S: Final = 5.0
UNMATCHED: Final = "unmatched"


class Application:
    """The ASGI callable that uvicorn runs.

    Args:
        routes: all of them.
        engines: the services behind them.
        server: counts what no route answers.
    """

    def __init__(self, routes: Sequence[Route], engines: Sequence[Engine], server: ServerState) -> None:
        self.templates = tuple(route.template for route in routes)
        """Every route template: the closed set of the metrics' route label."""
        self.served = tuple(path for path in self.templates if path != "/" and not path.startswith(RESERVED))
        """Those that services declare."""
        self._exact = {route.template: route for route in routes}
        self._litestar = Litestar(
            [_mounted(route) for route in routes],
            openapi_config=None,
            exception_handlers={HTTPException: _Unrouted(server, engines, self.templates)},
            logging_config=None,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # ASGI's own untyped triple
        """Answer one request."""
        route = self._exact.get(scope["path"])
        if route is not None:
            await route(scope, receive, send)
        else:
            await self._litestar(scope, receive, send)


def create_app(engines: Sequence[Engine], server: ServerState, *, pages: bool = True) -> Application:
    """The application that serves these engines.

    Args:
        engines: one is served at the root; several are served under `/{service name}` each (gateway).
        server: shared by all routes.
        pages: serve `/`, `/docs` and `/openapi.json`.

    Raises:
        ConfigError: a deadline class is unknown, two services publish the same model, or a rule of access fits no route
            or asks for what nobody can have.
    """
    routes = [
        Route("/livez", Livez(), server, PROBE_DEADLINE_S, "GET"),
        Route("/readyz", Readyz(engines, server), server, PROBE_DEADLINE_S, "GET"),
    ]
    for engine in engines:
        prefix = prefix_of(engine, engines)
        if prefix in TAKEN or f"{prefix}/" in RESERVED:
            raise ConfigError(f"service {engine.service.name!r} cannot be served beside others: {prefix} is taken")
        routes += service_routes(engine, server, prefix)
    routes += inference_routes(engines, server)
    if pages:
        document = document_of(engines)
        if server.entrance is not None:
            server.entrance.describe(document, list(published_models(engines)))
        routes += page_routes(engines, server, document)
    if server.entrance is not None:
        server.entrance.check([route.template for route in routes], is_grpc=False)
    return Application(routes, engines, server)


def prefix_of(engine: Engine, engines: Sequence[Engine]) -> str:
    """Where a service's own paths begin: the root, or its name when there are several."""
    return "" if len(engines) == 1 else f"/{engine.service.name}"


def _mounted(route: Route) -> Any:  # Litestar's handler type is generic over the app
    async def serve(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await route(scope, receive, send)  # type: ignore[arg-type]  # TypedDict against dict, the same object

    return asgi(route.template, copy_scope=False)(serve)


class _Unrouted:
    """What Litestar itself refuses (no such path), in the shape of every other error, counted under one label."""

    def __init__(self, server: ServerState, engines: Sequence[Engine], templates: Sequence[str]) -> None:
        self._server = server
        self._unpublished = Unpublished(engines)
        self._is_closed = server.entrance is not None and server.entrance.is_closed
        self._hint = (
            None
            if self._is_closed
            else f"served paths: {', '.join(path for path in templates if not path.startswith(RESERVED))}"
        )

    def __call__(self, request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        path = request.scope["path"]  # `request.url` raises where `Host` is no host
        problem = problem_of(error)
        if error.status_code == 404:
            named = None if self._is_closed else self._unpublished.problem(path)
            problem = named or Problem(404, "path_unknown", f"nothing is served at {path[:200]!r}", hint=self._hint)
        elif 400 <= error.status_code < 500:  # a `Host` that is no host, …; what it says may be the client's own words
            problem = Problem(error.status_code, "request_invalid", "a header of the request cannot be read")
        self._server.metrics.request(UNMATCHED, request.method, problem.status, 0.0)
        headers = {name.decode(): value.decode() for name, value in problem_headers(problem)}
        encode = protocol_body_of if path.startswith("/v2/") else body_of
        return Response(encode(problem), status_code=problem.status, headers=headers)
