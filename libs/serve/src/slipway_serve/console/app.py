"""The console's application: which address shows what, and what is said when something cannot be shown.

It only reads: there is no route but GET. The invariants: a page loads nothing from another host and runs no inline
script; a request that names another host than the console's own is refused where it listens on the loopback interface
(a page of somebody else could otherwise read it by renaming itself, "DNS rebinding"); no answer is a traceback.
"""

import hashlib
import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.response import Redirect

from slipway_bundle import HostError, SlipwayError
from slipway_serve.console import views
from slipway_serve.console.sources import ConsoleOptions
from slipway_serve.console.views import Views
from slipway_serve.pages import POLICY
from slipway_serve.small_server import run_app
from slipway_signals.prometheus import PrometheusError

logger = logging.getLogger(__name__)

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
HEADERS: Final = {
    "content-security-policy": POLICY.decode(),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
SCRIPT: Final = "text/javascript; charset=utf-8"
STYLE: Final = "text/css; charset=utf-8"
ASSETS: Final = {
    "pages.css": ("pages.css", STYLE),
    "elements.js": ("elements.js", SCRIPT),
    "console.css": ("console/console.css", STYLE),
    "live.js": ("console/live.js", SCRIPT),
    "dashboard.js": ("console/dashboard.js", SCRIPT),
    "charts.js": ("console/charts.js", SCRIPT),
    "figures.js": ("console/figures.js", SCRIPT),
    "uplot.js": ("console/uplot/uPlot-1.6.32.iife.min.js", SCRIPT),
    "uplot.css": ("console/uplot/uPlot-1.6.32.min.css", STYLE),
}
"""By name: the file below `static/`, and its type."""

Asked = Request[Any, Any, Any]


def _app(made: Views, *, is_loopback: bool) -> Litestar:
    assets = _assets()

    @get("/static/{name:str}", sync_to_thread=False)
    def asset(request: Asked) -> Response[bytes]:
        name = str(request.path_params["name"])
        if name not in assets:
            raise HTTPException(status_code=404, detail=f"there is no {name[:60]!r} here")
        content, kind, tag = assets[name]
        if request.headers.get("if-none-match") == tag:
            return Response(b"", status_code=304, headers={"etag": tag})
        return Response(content, media_type=kind, headers={"etag": tag, "cache-control": "no-cache"})

    return Litestar(
        [asset, _now, _dashboards, _dashboard, _grafana, _alert, _runbooks, _runbook, *API],
        state=State({"views": made}),
        before_request=_known_host if is_loopback else None,
        exception_handlers={HTTPException: _refused, SlipwayError: _refused, Exception: _broken},
        after_request=_with_headers,
        openapi_config=None,
        logging_config=None,
    )


def serve_console(options: ConsoleOptions, announce: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; blocks, main thread only.

    Args:
        options: of the console.
        announce: told the address when it listens.

    Returns:
        The exit status: 0, or 130 after Ctrl-C.

    Raises:
        SlipwayError: a file cannot be read, or the port is taken.
    """
    made = Views(options)
    try:
        return run_app(_app(made, is_loopback=options.host in LOOPBACK), options.host, options.port, announce)
    finally:
        made.close()


def _views(state: State) -> Views:
    views: Views = state["views"]
    return views


@get("/", media_type=MediaType.HTML, sync_to_thread=True)
def _now(state: State) -> bytes:
    return _views(state).now()


@get("/dashboards", sync_to_thread=False)
def _dashboards(state: State) -> Redirect:
    return Redirect(_views(state).first_dashboard())


@get("/d/{uid:str}", sync_to_thread=False)
def _grafana(request: Asked) -> Redirect:
    """Grafana's own addresses, so that its links lead here too."""
    query = request.url.query
    return Redirect(f"/dashboards/{_word(request, 'uid')}" + (f"?{query}" if query else ""))


@get("/dashboards/{uid:str}", media_type=MediaType.HTML, sync_to_thread=True)
def _dashboard(state: State, request: Asked) -> bytes:
    return _views(state).dashboard(_word(request, "uid"), request.query_params.dict())


@get("/alerts/{name:str}", media_type=MediaType.HTML, sync_to_thread=True)
def _alert(state: State, request: Asked) -> bytes:
    return _views(state).alert(_word(request, "name"), _labels(request))


@get("/runbooks", media_type=MediaType.HTML, sync_to_thread=True)
def _runbooks(state: State) -> bytes:
    return _views(state).runbooks()


@get("/runbooks/{name:str}", media_type=MediaType.HTML, sync_to_thread=True)
def _runbook(state: State, request: Asked) -> bytes:
    return _views(state).runbook(_word(request, "name"))


@get("/api/overview", sync_to_thread=True)
def _api_overview(state: State) -> Response[bytes]:
    return _json(_views(state).look())


@get("/api/alerts/{name:str}", sync_to_thread=True)
def _api_alert(state: State, request: Asked) -> Response[bytes]:
    return _json(_views(state).brief(_word(request, "name"), _labels(request)))


@get("/api/dashboards", sync_to_thread=False)
def _api_dashboards(state: State) -> Response[bytes]:
    return _json([{"uid": one.uid, "title": one.title} for one in _views(state).sources.dashboards.values()])


@get("/api/dashboards/{uid:str}", sync_to_thread=False)
def _api_dashboard(state: State, request: Asked) -> Response[bytes]:
    return _json(_views(state).board(_word(request, "uid")))


@get("/api/dashboards/{uid:str}/panels/{number:int}", sync_to_thread=True)
def _api_panel(state: State, request: Asked) -> Response[bytes]:
    return _json(_views(state).panel(_word(request, "uid"), int(_word(request, "number")), request.query_params.dict()))


@get("/api/dashboards/{uid:str}/marks", sync_to_thread=True)
def _api_marks(state: State, request: Asked) -> Response[bytes]:
    return _json(_views(state).marks(_word(request, "uid"), request.query_params.dict()))


API: Final = (_api_overview, _api_alert, _api_dashboards, _api_dashboard, _api_panel, _api_marks)


def _word(request: Asked, name: str) -> str:
    """A part of the path."""
    return str(request.path_params[name])


def _labels(request: Asked) -> dict[str, str]:
    """Labels out of an address; of one that comes several times, the last."""
    return {name: value for name, value in request.query_params.multi_items() if value}


def _json(value: object) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type=MediaType.JSON)


def _with_headers(response: Response[Any]) -> Response[Any]:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _refused(request: Asked, error: Exception) -> Response[bytes]:
    """What is not there, cannot be read from the address, or cannot be asked."""
    match error:
        case HTTPException():
            status, code, message, hint = error.status_code, "not_found", str(error.detail), None
        case SlipwayError():
            status = 502 if isinstance(error, PrometheusError) else 500 if isinstance(error, HostError) else 404
            code, message, hint = error.code, error.message, error.hint
        case _:
            status, code, message, hint = 500, "bug", str(error), None
    return _problem(request, status, code, message, hint)


def _broken(request: Asked, error: Exception) -> Response[bytes]:
    """A bug: the log has the traceback, the page a sentence."""
    logger.error("console_page_failed", exc_info=error, extra={"path": request.scope["path"]})
    message = "the console could not make this page; this is a bug in slipway"
    return _problem(request, 500, "bug", message, "the console's log has the traceback")


def _problem(request: Asked, status: int, code: str, message: str, hint: str | None) -> Response[bytes]:
    if request.scope["path"].startswith("/api/"):
        content = msgspec.json.encode({"error": {"code": code, "message": message, "hint": hint}})
        return _with_headers(Response(content, status_code=status, media_type=MediaType.JSON))
    return _with_headers(Response(views.problem(status, message, hint), status_code=status, media_type=MediaType.HTML))


def _assets() -> dict[str, tuple[bytes, str, str]]:
    made = {}
    for name, (file, kind) in ASSETS.items():
        content = (files("slipway_serve") / "static" / file).read_bytes()
        made[name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return made


def _known_host(request: Asked) -> None:
    """Refuses who calls us by a name that is not ours; only where we listen on the loopback interface."""
    name = request.headers.get("host", "").rpartition("]")
    host = name[0].removeprefix("[") if name[1] else name[2].partition(":")[0]
    if host not in LOOPBACK:
        raise HTTPException(status_code=400, detail=f"the console is not called {host[:60]!r}, expected localhost")
