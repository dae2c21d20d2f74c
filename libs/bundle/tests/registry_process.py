"""A real registry (Debian's docker-registry) in a process of its own, and a proxy in front of it that fails on demand.

The proxy takes a request whole before it passes it on, as nginx does in front of a registry; `cut` with `passes_on`
lets the registry see the half that arrived. It counts what the client sent: what "sent again" is measured by.
"""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from msgspec import Struct

PROGRAM = "docker-registry"
FIRST_ANSWER_S = 20.0

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}", secret: a-secret-that-outlives-the-process{tls}}}
{auth}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RegistryProcess:
    """One registry; `restart` keeps its port and its data."""

    def __init__(self, folder: Path, *, auth: str = "", tls: tuple[Path, Path] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._tls = tls
        shown = f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else ""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=self.port, auth=auth, tls=shown))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which(PROGRAM)
        assert program is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "serve", self.folder / "config.yml"], stdout=log, stderr=log)
        give_up = time.monotonic() + FIRST_ANSWER_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up, "the registry does not answer"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def blobs(self) -> set[str]:
        """The digests on its disk."""
        found = (self.folder / "data/docker/registry/v2/blobs/sha256").glob("*/*/data")
        return {f"sha256:{path.parent.name}" for path in found}

    def tags(self, repository: str) -> set[str]:
        """The tags on its disk."""
        folder = self.folder / "data/docker/registry/v2/repositories" / repository / "_manifests/tags"
        return {path.parent.parent.name for path in folder.glob("*/current/link")} if folder.is_dir() else set()

    def _answers(self) -> bool:
        try:
            connection = (
                http.client.HTTPSConnection(self.host, timeout=1, context=ssl._create_unverified_context())  # noqa: S323
                if self._tls
                else http.client.HTTPConnection(self.host, timeout=1)
            )
            connection.request("GET", "/v2/")
            connection.getresponse().read()
            connection.close()
        except OSError:
            threading.Event().wait(0.02)
            return False
        return True


@contextmanager
def running(folder: Path, *, auth: str = "", tls: tuple[Path, Path] | None = None) -> Iterator[RegistryProcess]:
    registry = RegistryProcess(folder, auth=auth, tls=tls)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


class Seen(Struct):
    """One request, as the proxy saw it."""

    number: int
    """From 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0

    @property
    def kind(self) -> str:
        """`PATCH upload`, `PUT manifest`, `GET blob`, …"""
        for word in ("uploads", "blobs", "manifests", "tags", "referrers"):
            if f"/{word}/" in self.path or self.path.endswith(f"/{word}"):
                return f"{self.method} {word.removesuffix('s')}"
        return f"{self.method} {self.path}"


class Fault(Struct, kw_only=True):
    """What happens to a request instead of what should."""

    status: int | None = None
    """Answered by the proxy; the registry does not see it."""

    headers: dict[str, str] = {}
    cut: int | None = None
    """The connection is cut after so many bytes of the body."""

    passes_on: bool = False
    """The registry sees the half that arrived."""

    loses_answer: bool = False
    """The registry does it; the connection is cut before its answer."""

    answer: Callable[[bytes], bytes] | None = None
    """Changes the body of the answer; its length stays what it was told to be when it gets shorter."""

    drop: tuple[str, ...] = ()
    """Headers of the answer that go missing."""


Rule = Callable[[Seen], Fault | None]


class FaultProxy:
    """Passes requests on to a registry, except those that `rule` has a fault for."""

    def __init__(self, registry: RegistryProcess) -> None:
        self.registry = registry
        self.rule: Rule = lambda _seen: None
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                with suppress(OSError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def do(self) -> None:
                proxy.handle(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def sent_bytes(self) -> int:
        """Bytes of blobs that clients sent, however it ended."""
        return sum(len(seen.body) for seen in self.seen if seen.kind.endswith("upload"))

    def kinds(self) -> list[str]:
        return [seen.kind for seen in self.seen]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            seen = Seen(len(self.seen) + 1, handler.command, handler.path, headers)
            self.seen.append(seen)
        fault = self.rule(seen) or Fault()
        length = int(headers.get("content-length", "0"))
        if fault.cut is not None and handler.command in {"PATCH", "PUT", "POST"}:
            seen.body = handler.rfile.read(min(fault.cut, length))
            if fault.passes_on:
                self._pass_on_half(seen, length)
            return _hang_up(handler)
        seen.body = handler.rfile.read(length)
        if fault.status is not None:
            return _answer(handler, fault.status, fault.headers, b"")
        try:
            status, answered, body = self._pass_on(seen)
        except OSError:
            return _hang_up(handler)
        seen.status = status
        if fault.loses_answer:
            return _hang_up(handler)
        told = len(body)
        changed = fault.answer(body) if fault.answer else body
        if fault.cut is not None:
            changed = changed[: fault.cut]
        kept = {name: value for name, value in answered.items() if name.lower() not in fault.drop} | fault.headers
        if fault.answer and len(changed) > told:
            told = len(changed)
        if handler.command == "HEAD":
            return _answer(handler, status, kept, b"", told=int(answered.get("Content-Length", "0")))
        _answer(handler, status, kept, changed, told=told)
        if len(changed) < told:
            _hang_up(handler)
        return None

    def _pass_on(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.registry.host, timeout=20)
        try:
            headers = {name: value for name, value in seen.headers.items() if name != "connection"}
            connection.request(seen.method, seen.path, body=seen.body or None, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def _pass_on_half(self, seen: Seen, length: int) -> None:
        host, _, port = self.registry.host.partition(":")
        lines = [f"{seen.method} {seen.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (seen.headers | {"content-length": str(length)}).items()]
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + seen.body)
            connection.shutdown(socket.SHUT_WR)
            with suppress(OSError):  # until the registry has noticed
                while connection.recv(4096):
                    pass


@contextmanager
def proxied(registry: RegistryProcess) -> Iterator[FaultProxy]:
    proxy = FaultProxy(registry)
    try:
        yield proxy
    finally:
        proxy.close()


def repository_of(path: str) -> str:
    """`/v2/a/b/blobs/…` -> `a/b`."""
    found = re.match(r"^/v2/(.+?)/(?:blobs|manifests|tags|referrers)/", path)
    return found[1] if found else ""


def environ(home: Path, **more: str) -> dict[str, str]:
    """An environment in which nobody has logged in anywhere."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], **more}


def _answer(handler: Any, status: int, headers: dict[str, str], body: bytes, *, told: int | None = None) -> None:
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if told is None else told))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    handler.wfile.flush()


def _hang_up(handler: Any) -> None:
    """Cut the connection, not close it politely."""
    handler.close_connection = True
    with suppress(OSError):
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
