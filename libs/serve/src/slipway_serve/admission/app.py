"""The webhook: one address that Kubernetes posts reviews to, and the probes of its own pod.

It judges nothing itself. The invariants: it answers a review with a review, whatever went wrong, because Kubernetes
shows only those to people; it never says yes to what it could not read; it keeps nothing on disk.
"""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from msgspec import Struct

from slipway_bundle import Store, load_policy
from slipway_bundle.digest import Digest
from slipway_bundle.registry import Remote, pull_documents
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.access.tls import ServerTls
from slipway_serve.admission.judge import Judge, Judgement
from slipway_serve.admission.review import ReviewError, answer_of, decode_review, images_of
from slipway_serve.small_server import run_app
from slipway_signals.logs import configure_logging

__all__ = ["AdmissionOptions", "serve_admission"]

logger = logging.getLogger(__name__)

PATIENCE_S: Final = 8.0
"""Kubernetes waits for 10 (`manifests.py`); an answer in words is better than its own."""
BODY_BYTES: Final = 3 << 20
"""Kubernetes' own limit of an object is 3 MiB of etcd's request."""

Asked = Request[Any, Any, Any]


class AdmissionOptions(Struct, frozen=True, kw_only=True):
    """What the webhook is started with."""

    policy: Path
    """The file; read again when it changes."""

    certificate: Path | None = None
    key: Path | None = None
    """PEM files; Kubernetes asks by TLS only. None: plain HTTP, behind something that ends TLS."""

    host: str = "127.0.0.1"
    port: int = 8443
    cache_s: float = 60.0
    """How long a yes is believed, seconds."""

    is_insecure: bool = False
    """Whether registries on other machines may be spoken to in plain HTTP."""


def serve_admission(options: AdmissionOptions, environ: Mapping[str, str], announce: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; blocks, main thread only. Returns the exit status: 0, or 130 after Ctrl-C.

    Args:
        options: of the webhook.
        environ: credentials, proxies and mirrors of registries, as `slipway bundle pull` reads them.
        announce: told the address when it listens.

    Raises:
        SlipwayError: the policy or the certificate cannot be used, or the port is taken.
    """
    judge = Judge(
        load_policy(options.policy),
        partial(_fetched, environ, is_insecure=options.is_insecure),
        cache_s=options.cache_s,
    )
    followed = [FollowedFiles([options.policy], lambda: judge.follow(load_policy(options.policy)))]
    tls = None
    if options.certificate is not None and options.key is not None:
        tls = ServerTls(options.certificate, options.key, None)
        followed.append(tls.files)
    app = Litestar(
        [_validate, _live],
        state=State({"judge": judge}),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=BODY_BYTES,
        exception_handlers={HTTPException: _told, ReviewError: _unreadable, Exception: _broken},
    )
    log = configure_logging("admission")
    try:
        return run_app(app, options.host, options.port, announce, tls=tls, on_second=[one.look for one in followed])
    finally:
        log.close()


@post("/validate", status_code=200)
async def _validate(request: Asked, state: State) -> Response[bytes]:
    asked = decode_review(await request.body())
    try:
        judging = asyncio.to_thread(state["judge"].judge, images_of(asked))
        judged: tuple[Judgement, ...] = await asyncio.wait_for(judging, PATIENCE_S)
    except TimeoutError:
        late = f"no verdict within {PATIENCE_S:g} s: a registry is slow; it is judged again when the pod is made again"
        return _json(answer_of(asked.uid, (late,)))
    refusals = tuple(said for one in judged for said in one.refusals)
    return _json(answer_of(asked.uid, refusals, tuple(said for one in judged for said in one.warnings)))


@get(["/livez", "/readyz"], media_type=MediaType.TEXT, sync_to_thread=False)
def _live() -> str:
    return "ok"


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type=MediaType.JSON)


def _told(_: Asked, error: HTTPException) -> Response[bytes]:
    return Response(f"{error.detail}\n".encode(), status_code=error.status_code, media_type=MediaType.TEXT)


def _unreadable(_: Asked, error: ReviewError) -> Response[bytes]:
    return Response(f"{error}\n".encode(), status_code=400, media_type=MediaType.TEXT)


def _broken(_: Asked, error: Exception) -> Response[bytes]:
    logger.error("a review failed", exc_info=error)
    return Response(b"this is a bug in slipway; the log of the webhook says more\n", status_code=500)


@contextmanager
def _fetched(environ: Mapping[str, str], remote: Remote, *, is_insecure: bool) -> Iterator[tuple[Store, Digest]]:
    """The documents of one bundle, in a store that lives as long as its judgement."""
    with tempfile.TemporaryDirectory(prefix="slipway-admission-") as folder:
        store = Store.open(Path(folder))
        yield store, pull_documents(remote.text, store, environ=environ, is_insecure=is_insecure).digest
