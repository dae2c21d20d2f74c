"""The admin port: `/metrics`, the pages its owner adds (`/readyz`, `/debug/workers`), and its actions (`/swap`).

It does not know what those say or do: they are callables. It listens on the loopback unless told otherwise, because
what it shows is for operators. The invariants: GET and HEAD change nothing; a POST acts only when no web page can have
sent it (`actions`); a page that fails answers 500 and never ends the server; a client that says nothing holds a thread
for 10 s at most, one that sends its body byte by byte for 20 s.
"""

import contextlib
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from slipway_bundle.errors import HostError
from slipway_signals import metrics
from slipway_signals.actions import Action, Answer, perform

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from _typeshed import OptExcInfo

__all__ = ["Action", "Admin", "AdminPortError", "Answer", "Page", "start_admin"]

logger = logging.getLogger(__name__)

Page = Callable[[], Answer]
"""Answers one GET. Called from the admin port's threads."""


class AdminPortError(HostError):
    """The admin port cannot be opened."""

    code = "admin_port"


class Admin:
    """A running admin port. `close` ends it."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="slipway-admin", daemon=True)
        self.host = str(server.server_address[0])
        self.port: int = server.server_port
        """The port it listens on, also when 0 was asked for."""
        self._thread.start()

    @property
    def url(self) -> str:
        """Where a browser finds it, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop answering and free the port. Blocks until the listening thread has ended."""
        self._is_closing = True
        # `serve_forever` would look twice a second whether to stop; here a connection says so.
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        with contextlib.suppress(OSError):
            socket.create_connection((loopback, self.port), timeout=1.0).close()
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        while not self._is_closing:
            self._server.handle_request()


def start_admin(
    registry: CollectorRegistry,
    port: int = 8002,
    host: str = "127.0.0.1",
    pages: Mapping[str, Page] | None = None,
    actions: Mapping[str, Action] | None = None,
) -> Admin:
    """Answer `/metrics` from `registry`, each of `pages` and each of `actions`, from threads of its own.

    Args:
        registry: What `/metrics` shows; see `collector.make_registry`.
        port: TCP port; 0 takes a free one, then `Admin.port` says which.
        host: Address to listen on; anything but the loopback shows operators' pages to the network.
        pages: Further pages by path, for example `{"/readyz": page}`.
        actions: What a POST does, by path, for example `{"/swap": action}`; see `actions.perform` for what it must
            carry. They are run in the requests' threads, possibly several at once.

    Raises:
        AdminPortError: when the port is in use, forbidden, or the address is not of this machine.
    """
    if not 0 <= port <= 65_535:  # the C library would take it modulo 65536
        raise AdminPortError(f"the admin port {port} cannot be opened: ports are 0 to 65535", host=host, port=port)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        server_class = _AdminServer6 if family == socket.AF_INET6 else _AdminServer
        server = make_server(
            str(address[0]), port, _route(registry, pages or {}, actions or {}), server_class, _QuietHandler
        )
    except OSError as error:
        raise AdminPortError(
            f"the admin port {host}:{port} cannot be opened: {error.strerror or error}",
            hint="choose another with `--admin-port`; 0 takes a free one",
            host=host,
            port=port,
        ) from error
    return Admin(server)


class _AdminServer(ThreadingWSGIServer):
    """prometheus_client's server, which looks up no names."""

    def server_bind(self) -> None:
        # WSGIServer.server_bind asks DNS for the host's full name; without a resolver that takes seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _AdminServer6(_AdminServer):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
        logger.debug("admin_request", extra={"request": format % args})

    def address_string(self) -> str:
        return str(self.client_address[0])


def _route(registry: CollectorRegistry, pages: Mapping[str, Page], actions: Mapping[str, Action]) -> "WSGIApplication":
    exposition: WSGIApplication = make_wsgi_app(registry)
    instance = uuid.uuid4().hex

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if path in actions:
            if method != "POST":
                return _answer(start_response, 405, b"only POST is answered here\n", ("Allow", "POST"))
            status, done, content_type = perform(path, actions[path], environ)
            return _answer(start_response, status, done, ("Content-Type", content_type))
        if method not in {"GET", "HEAD"}:
            return _answer(start_response, 405, b"only GET and HEAD are answered here\n", ("Allow", "GET, HEAD"))
        if path == "/metrics":
            body = exposition({**environ, "REQUEST_METHOD": "GET"}, _named(start_response, instance))
            return body if method == "GET" else ()
        page = pages.get(path)
        if page is None:
            known = "\n".join(["/metrics", *sorted(pages), *(f"POST {one}" for one in sorted(actions))])
            text = _answer(start_response, 200 if path == "/" else 404, f"{known}\n".encode())
        else:
            text = _answer_page(start_response, path, page)
        return text if method == "GET" else ()

    return application


def _named(start_response: "StartResponse", instance: str) -> "StartResponse":
    def start(
        status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None, /
    ) -> Callable[[bytes], object]:
        return start_response(status, [*headers, (metrics.INSTANCE_HEADER, instance)], exc_info)

    return start


def _answer_page(start_response: "StartResponse", path: str, page: Page) -> Iterable[bytes]:
    try:
        status, body, content_type = page()
    except Exception:  # top of a request: the page's fault must not end the port
        logger.exception("admin_page_failed", extra={"page": path})
        return _answer(start_response, 500, b"the page failed; the log of the server says why\n")
    return _answer(start_response, status, body, ("Content-Type", content_type))


def _answer(start_response: "StartResponse", status: int, body: bytes, *headers: tuple[str, str]) -> Iterable[bytes]:
    named = dict([("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *headers])
    start_response(f"{status} {HTTPStatus(status).phrase}", [*named.items(), ("Content-Length", str(len(body)))])
    return [body]
