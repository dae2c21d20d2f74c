"""The retraining hook: a small server that hears Alertmanager, and tells a training pipeline of drift that has lasted.

`episodes` decides what is due, `delivery` sends it; this listens. The invariants: Alertmanager gets 2xx only when
everything that was due has arrived, so what the hook cannot deliver, and what it had in hand when it was killed, comes
again from Alertmanager, and nothing is stored here; no more than `CONNECTIONS` requests are held, one of them
delivers, and each has its deadline; a web page can start nothing (it cannot send JSON here without asking first, which
is never allowed, and a page that made itself this origin still sends `Origin`).
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from slipway_bundle.errors import HostError, SlipwayError
from slipway_signals.actions import Answer, problem
from slipway_signals.drift.delivery import PAUSES_S, check_url, post
from slipway_signals.drift.episodes import MAX_BYTES, CloudEvent, Episodes, PayloadError, decode_alerts

__all__ = ["PATH", "HookPortError", "HookServer", "RetrainingHook"]

logger = logging.getLogger(__name__)

PATH: Final = "/alerts"
HEALTH: Final = "/healthz"
CONNECTIONS: Final = 16
"""Held at once; further ones are answered 503, and Alertmanager comes again."""

READ_S: Final = 10.0
"""For a whole request to arrive."""

TURN_S: Final = 60.0
"""How long a request waits for the one that is delivering."""


class HookPortError(HostError):
    """The hook cannot listen where it should."""

    code = "hook_port"


class Counts(Struct):
    """What was done since the hook was started. Not frozen: it counts."""

    webhooks: int = 0
    """That were read."""

    sent: int = 0
    """Events that arrived."""

    unsent: int = 0
    """Events that did not; Alertmanager brings them again."""


class RetrainingHook:
    """What is done with a webhook. Thread-safe; delivers one event at a time.

    Args:
        url: Where events go.
        sustained_s: How long an episode of drift must have lasted.
        token: Read before each delivery, so that it may change; empty: none.
        pauses_s: Before each further attempt to deliver.
        now: The time of day, with a zone: alerts have such times.

    Raises:
        AddressError: Of the URL.
    """

    def __init__(
        self,
        url: str,
        *,
        sustained_s: float = 0.0,
        token: Callable[[], str] = str,
        pauses_s: Sequence[float] = PAUSES_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        check_url(url)
        self._url = url
        self._token = token
        self._pauses_s = pauses_s
        self._now = now
        self._episodes = Episodes(timedelta(seconds=sustained_s))
        self._turn = threading.Lock()
        self._is_stopping = threading.Event()
        self._counts = Counts()

    def stop(self) -> None:
        """Make no further attempts; what is being sent is finished."""
        self._is_stopping.set()

    def health(self) -> Answer:
        """200 and what was counted, as JSON."""
        return 200, msgspec.json.encode({"status": "ok", **msgspec.structs.asdict(self._counts)}), "application/json"

    def receive(self, body: bytes) -> Answer:
        """Take a webhook; blocks until what is due has arrived.

        Returns:
            200 when nothing is left to send; 400 for what is no webhook; 502 when an event was not taken and 503 when
            there was no time for it: then Alertmanager must come again.
        """
        try:
            alerts = decode_alerts(body)
        except PayloadError as error:
            return problem(400, error.code, error.message, "Alertmanager's webhook_config sends version 4")
        if not self._turn.acquire(timeout=TURN_S):
            return problem(503, "hook_busy", "another event is being delivered")
        try:
            if self._is_stopping.is_set():
                return problem(503, "hook_stopping", "the hook is being stopped")
            self._counts.webhooks += 1
            failed: list[SlipwayError] = []
            for event in self._episodes.take(alerts, self._now()):
                if unsent := self._send(event, is_first=not failed):
                    failed.append(unsent)
        finally:
            self._turn.release()
        if failed:
            return problem(502, failed[0].code, failed[0].message, "send it again: nothing is stored here")
        return 200, b'{"status":"ok"}', "application/json"

    def _send(self, event: CloudEvent, *, is_first: bool) -> SlipwayError | None:
        """Why the event did not arrive; None: it did."""
        said = {"event": event.id, "subject": event.subject}
        try:
            status = post(
                event,
                self._url,
                token=self._token(),
                pauses_s=self._pauses_s if is_first else (),
                wait=self._is_stopping.wait,
            )
        except SlipwayError as error:
            self._counts.unsent += 1
            logger.warning("drift_event_unsent", extra={**said, "problem": error.message})
            return error
        self._episodes.told(event)
        self._counts.sent += 1
        logger.info("drift_event_sent", extra={**said, "status": status})
        return None


class HookServer:
    """Listens until `close`; requests are answered in threads of their own.

    Args:
        hook: What is done with webhooks.
        host: Address to listen on. Whoever reaches it can have events sent; it is meant for Alertmanager alone.
        port: 0 takes a free one, then `url` has it.

    Raises:
        HookPortError: The port is in use, forbidden, or the address is not of this machine.
    """

    def __init__(self, hook: RetrainingHook, host: str, port: int) -> None:
        self._hook = hook
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
                0
            ]
            server = _Server6 if family == socket.AF_INET6 else _Server
            self._server = server((str(address[0]), port), hook)
        except (OSError, OverflowError) as error:
            raise HookPortError(
                f"the hook cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
                hint="choose another address with `--listen`; port 0 takes a free one",
                host=host,
                port=port,
            ) from error
        look_s = {"poll_interval": 0.1}  # whether to stop; requests wake it at once
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=look_s, name="slipway-drift-hook")
        self._thread.start()

    @property
    def url(self) -> str:
        """Where Alertmanager sends its webhooks."""
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}{PATH}" if ":" in str(host) else f"http://{host!s}:{port}{PATH}"

    def close(self) -> None:
        """Take no more requests, and finish those that are there. Blocks: 20 s at most."""
        self._hook.stop()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """As many threads as connections, and no more of these than `CONNECTIONS`."""

    daemon_threads = False  # `server_close` waits for them

    def __init__(self, address: tuple[str, int], hook: RetrainingHook) -> None:
        self.hook = hook
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks DNS for the host's full name; without a resolver that takes seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has left, or never finished: nobody is there to answer."""
        del request, client_address
        logger.debug("hook_connection_lost")


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "slipway", ""

    def setup(self) -> None:
        super().setup()
        self._late = threading.Timer(READ_S, self._end_reading)  # `timeout` is for each read: a byte would renew it
        self._late.daemon = True
        self._late.start()

    def finish(self) -> None:
        self._late.cancel()
        super().finish()

    def do_GET(self) -> None:
        self._answer(self._hook.health() if self.path == HEALTH else _not_found(self.path))

    def do_POST(self) -> None:
        length = self._length()
        body = self._body(length) if isinstance(length, int) else length
        if not isinstance(body, bytes):
            self._answer(body)
            return
        try:
            answer = self._hook.receive(body)
        except Exception:  # top of a request: our fault must not end the hook, and Alertmanager comes again
            logger.exception("hook_failed")
            answer = problem(500, "hook_failed", "the hook failed; its log says why")
        self._answer(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
        logger.debug("hook_request", extra={"request": format % args})

    def _end_reading(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    @property
    def _hook(self) -> RetrainingHook:
        return cast("_Server", self.server).hook

    def _length(self) -> int | Answer:
        """Bytes of the body, or why none of it is read."""
        kind = self.headers.get_content_type()
        text = self.headers.get("Content-Length", "")
        if self.path != PATH:
            return _not_found(self.path)
        if "Origin" in self.headers or kind != "application/json":
            return problem(403, "not_alertmanager", f"expected `application/json` and no `Origin`, got {kind!r}")
        if not text.isdecimal() or len(text) > 18:
            return problem(411, "length_required", f"`Content-Length` is {text[:32]!r}, expected a number of bytes")
        if int(text) > MAX_BYTES:
            return problem(413, "body_too_large", f"the body has {text} bytes, expected at most {MAX_BYTES}")
        return int(text)

    def _body(self, length: int) -> bytes | Answer:
        body = self.rfile.read(length)
        self._late.cancel()
        if len(body) < length:
            said = f"{len(body)} of {length} bytes of the body arrived, expected all within {READ_S:g} s"
            return problem(408, "body_late", said)
        return body

    def _answer(self, answer: Answer) -> None:
        status, body, kind = answer
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _not_found(path: str) -> Answer:
    return problem(404, "not_found", f"nothing is at {path[:64]!r}, expected POST {PATH} or GET {HEALTH}")
