"""The addresses of the verdict service: evidence is posted, rollouts ask.

    POST /evidence                          evidence in, its verdict out: 201, or 200 when it was there
    GET  /verdict?rollout=&pod_hash=&stage= the answer for a stage; `verdict` is `inconclusive` when nothing is known
    GET  /verdicts[?rollout=]               the last hundred verdicts
    GET  /evidence/{digest}                 the evidence as it was posted
    GET  /evidence/{digest}/report          the page that a reviewer reads
    PUT  /freeze                            nothing of a rollout passes for a while
    DELETE /freeze?rollout=                 it may again
    GET  /freeze                            what is frozen
    GET  /livez, /readyz                    probes

It judges nothing itself (`service.py`). The invariants: an answer 200 or 201 to a POST is sent after its verdict is on
the disk; the body of a request without credentials is not read; one replay or report is made at a time, a few wait,
the rest is told to come back; an error is a problem document (RFC 9457), never half an answer. `/metrics` is on a port
of its own, as everywhere (`slipway_signals.admin`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from litestar import Litestar, MediaType, Request, Response, delete, get, post, put
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from msgspec import Meta, Struct

from slipway_bundle import IntegrityError, SlipwayError, UsageError
from slipway_serve.access.tls import ServerTls
from slipway_serve.problems import MEDIA_TYPE, Problem, body_of
from slipway_serve.small_server import run_app
from slipway_serve.verdicts.answers import Answer, Recorded, Stage
from slipway_serve.verdicts.callers import READ, WRITE, Callers, require_keys
from slipway_serve.verdicts.counting import VerdictMetrics
from slipway_serve.verdicts.errors import StoreError, StoreFullError
from slipway_serve.verdicts.service import VerdictService, page_of
from slipway_serve.verdicts.store import VerdictStore
from slipway_signals.admin import start_admin
from slipway_signals.logs import configure_logging

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import TrustedKey

__all__ = ["VerdictOptions", "serve_verdicts"]

logger = logging.getLogger(__name__)

BODY_S: Final = 60.0
"""In which a body must have come."""
WAITING: Final = 4
"""Bodies that are held at once; each may have the largest size."""
RETRY_S: Final = 2.0
LISTED: Final = 100
NAME_CHARS: Final = 253
"""Of a rollout, a pod hash, a stage: the longest name that Kubernetes has."""
PAGE_HEADERS: Final = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
"""The report has no script; should one get in with a name from the evidence, it does not run."""

Asked = Request[Any, Any, Any]


class FreezeAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a PUT."""

    rollout: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)]
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    until: Annotated[datetime, Meta(tz=True)] | None = None


class VerdictOptions(Struct, frozen=True, kw_only=True):
    """What the verdict service is started with."""

    store: Path
    """The SQLite file."""
    keys: Path | None = None
    """File of API keys; None: everybody may post and ask, from this machine only."""
    signers: "tuple[TrustedKey, ...]" = ()
    """Whose signature evidence must have; empty: it needs none."""
    certificate: Path | None = None
    key: Path | None = None
    """PEM files; None: plain HTTP, behind something that ends TLS."""
    client_ca: Path | None = None
    """Who has no certificate of these is not let in."""
    host: str = "127.0.0.1"
    port: int = 8010
    admin_host: str = "127.0.0.1"
    admin_port: int = 8012
    """Of `/metrics`, which asks nobody who he is."""
    plan_policy: Path | None = None
    """TOML file with the least that evidence must have asked for; None: every plan will do."""
    max_age_s: float = 86_400.0
    """How long a verdict counts."""
    keep_s: float | None = None
    """How long the bodies of evidence are kept; None: for ever. Verdicts are always kept."""
    max_body_bytes: int = 72_000_000
    """Evidence is 64 MiB at most, and its signature is small."""
    max_store_bytes: int | None = None


def serve_verdicts(options: VerdictOptions, announce: Callable[[str, str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; blocks, main thread only. Returns the exit status: 0, or 130 after Ctrl-C.

    Args:
        options: of the service.
        announce: told the address, and that of the metrics, when it listens.

    Raises:
        SlipwayError: the store, the keys or the certificate cannot be used, the port is taken, or the service would be
            open to a network.
    """
    require_keys(options.host, options.keys)
    callers = Callers(options.keys, lambda: datetime.now(UTC))
    followed = [] if callers.files is None else [callers.files]
    tls = None
    if options.certificate is not None and options.key is not None:
        tls = ServerTls(options.certificate, options.key, options.client_ca)
        followed.append(tls.files)
    with ExitStack() as opened:
        log = configure_logging("verdicts")
        opened.callback(log.close)
        store = opened.enter_context(VerdictStore.opened(options.store, max_bytes=options.max_store_bytes))
        service = VerdictService(
            store,
            options.signers,
            time.time,
            max_age_s=options.max_age_s,
            keep_s=options.keep_s,
            policy=options.plan_policy,
        )
        if service.files is not None:
            followed.append(service.files)
        metrics = VerdictMetrics(store, time.time)
        admin = start_admin(metrics.registry, options.admin_port, options.admin_host)
        opened.callback(admin.close)
        app = make_app(service, callers, metrics, options.max_body_bytes)
        looks = [one.look for one in followed]

        def listens(url: str) -> None:
            announce(url, f"{admin.url}/metrics")

        return run_app(app, options.host, options.port, listens, tls=tls, on_second=looks)


def make_app(service: VerdictService, callers: Callers, metrics: VerdictMetrics, max_body_bytes: int) -> Litestar:
    """The ASGI application."""
    return Litestar(
        [_take, _answer, _list, _evidence, _report, _freeze, _unfreeze, _frozen, _live, _ready],
        state=State({"service": service, "callers": callers, "metrics": metrics, "queue": _Queue()}),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=max_body_bytes,
        exception_handlers={
            HTTPException: _framework,
            SlipwayError: _told,
            TimeoutError: _late,
            Exception: _broken,
        },
    )


class _Queue:
    """One replay or report at a time, and few bodies in memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[asyncio.Semaphore]:
        """A place to wait in; raises Problem 503."""
        if self._waiting >= WAITING:
            detail = f"{WAITING} others are being judged or read already"
            hint = "ask again after the time in `Retry-After`"
            raise Problem(503, "verdicts_busy", detail, hint=hint, retry_after_s=RETRY_S)
        self._waiting += 1
        try:
            yield self._turn
        finally:
            self._waiting -= 1


@post("/evidence")
async def _take(request: Asked, state: State) -> Response[bytes]:
    caller = state["callers"].name(request.headers, WRITE)
    with state["queue"].place() as turn:
        body = await asyncio.wait_for(request.body(), BODY_S)
        async with turn:
            taken: tuple[Recorded, bool] = await asyncio.to_thread(state["service"].take, body, caller)
    judged, is_new = taken
    state["metrics"].taken(judged, is_new=is_new)
    if is_new:
        logger.info("%s: %s by %s", judged.verdict, judged.evidence, judged.by or "somebody")
    return _json(judged, 201 if is_new else 200)


@get("/verdict")
async def _answer(request: Asked, state: State) -> Response[bytes]:
    state["callers"].name(request.headers, READ)
    stage = Stage(**{name: _asked_for(request, name) for name in ("rollout", "pod_hash", "stage")})
    answer: Answer = await asyncio.to_thread(state["service"].ask, stage)
    state["metrics"].answered(answer)
    return _json(answer)


@get("/verdicts")
async def _list(request: Asked, state: State) -> Response[bytes]:
    state["callers"].name(request.headers, READ)
    rollout = _asked_for(request, "rollout") if "rollout" in request.query_params else None
    found: list[Recorded] = await asyncio.to_thread(state["service"].newest, rollout, LISTED)
    return _json({"verdicts": found})


@get("/evidence/{digest:str}")
async def _evidence(request: Asked, state: State, digest: str) -> Response[bytes]:
    return Response(await _body(request, state, digest), media_type=MediaType.JSON)


@get("/evidence/{digest:str}/report")
async def _report(request: Asked, state: State, digest: str) -> Response[bytes]:
    body = await _body(request, state, digest)
    with state["queue"].place() as turn:
        async with turn:
            page: str = await asyncio.to_thread(page_of, body)
    return Response(page.encode(), media_type=MediaType.HTML, headers=PAGE_HEADERS)


@put("/freeze")
async def _freeze(request: Asked, state: State) -> Response[bytes]:
    caller = state["callers"].name(request.headers, WRITE)
    body = await asyncio.wait_for(request.body(), BODY_S)
    try:
        asked = msgspec.json.decode(body, type=FreezeAsked)
    except msgspec.MsgspecError as error:
        hint = '{"rollout": "shop/churn", "reason": "why", "until": "2027-01-01T08:00:00Z"}; `*` is every rollout'
        raise Problem(422, "freeze_invalid", f"the body says no freeze: {error}", hint=hint) from error
    frozen = await asyncio.to_thread(state["service"].freeze, asked.rollout, asked.reason, asked.until, caller)
    logger.warning("%s %s, by %s", frozen.rollout, frozen.said(), caller or "somebody")
    return _json(frozen)


@delete("/freeze", status_code=200)
async def _unfreeze(request: Asked, state: State) -> Response[bytes]:
    caller = state["callers"].name(request.headers, WRITE)
    rollout = _asked_for(request, "rollout")
    if not await asyncio.to_thread(state["service"].store.unfreeze, rollout):
        detail = f"{rollout!r} is not frozen by this name"
        raise Problem(404, "freeze_unknown", detail, hint="GET /freeze lists what is frozen")
    logger.warning("%s is not frozen any more, by %s", rollout, caller or "somebody")
    return _json({"rollout": rollout})


@get("/freeze")
async def _frozen(request: Asked, state: State) -> Response[bytes]:
    state["callers"].name(request.headers, READ)
    return _json({"frozen": await asyncio.to_thread(state["service"].frozen)})


@get("/livez", media_type=MediaType.TEXT, sync_to_thread=False)
def _live() -> str:
    return "ok"


@get("/readyz", media_type=MediaType.TEXT)
async def _ready(state: State) -> str:
    await asyncio.to_thread(state["service"].store.check)
    return "ok"


async def _body(request: Asked, state: State, digest: str) -> bytes:
    state["callers"].name(request.headers, READ)
    body: bytes | None = await asyncio.to_thread(state["service"].store.body, digest)
    if body is None:
        detail = f"no evidence {digest!r} is kept here"
        raise Problem(404, "evidence_unknown", detail, hint="GET /verdicts lists what was posted")
    return body


def _asked_for(request: Asked, name: str) -> str:
    value = request.query_params.get(name, "")
    if not 0 < len(value) <= NAME_CHARS:
        detail = f"`{name}` has {len(value)} characters, expected 1 to {NAME_CHARS}"
        raise Problem(400, "query_invalid", detail, hint="GET /verdict?rollout=R&pod_hash=H&stage=S", path=name)
    return value


def _json(value: object, status: int = 200) -> Response[bytes]:
    return Response(msgspec.json.encode(value), status_code=status, media_type=MediaType.JSON)


def _problem(asked: Asked, problem: Problem) -> Response[bytes]:
    if asked.method == "POST":
        asked.app.state["metrics"].refused(problem.stable_code)
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    if problem.retry_after_s is not None:
        headers["retry-after"] = f"{problem.retry_after_s:.0f}"
    return Response(body_of(problem), status_code=problem.status, media_type=MEDIA_TYPE.decode(), headers=headers)


def _told(asked: Asked, error: SlipwayError) -> Response[bytes]:
    """What is wrong with evidence is said in full: whoever posts it has a key, and must mend it."""
    match error:
        case Problem():
            return _problem(asked, error)
        case StoreFullError():
            logger.error("%s", error.message)
            return _problem(asked, Problem(507, error.code, "there is no space left; nothing of it was kept"))
        case StoreError():
            logger.error("%s", error.message)
            detail = "the verdicts cannot be read or written now; the log of the service says more"
            return _problem(asked, Problem(503, error.code, detail, retry_after_s=RETRY_S))
        case UsageError() | IntegrityError():
            return _problem(asked, Problem(422, error.code, error.message, hint=error.hint))
    return _broken(asked, error)


def _framework(asked: Asked, error: HTTPException) -> Response[bytes]:
    code = {404: "path_unknown", 405: "method_unknown", 413: "body_too_large"}.get(error.status_code, "request_invalid")
    return _problem(asked, Problem(error.status_code, code, error.detail))


def _late(asked: Asked, _: TimeoutError) -> Response[bytes]:
    return _problem(asked, Problem(408, "body_slow", f"the body did not come within {BODY_S:g} s"))


def _broken(asked: Asked, error: Exception) -> Response[bytes]:
    logger.error("a request failed", exc_info=error)
    return _problem(asked, Problem(500, "internal", "this is a bug in slipway; the log of the service says more"))
