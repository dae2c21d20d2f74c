"""Arms that tests write: an ASGI application behind a real uvicorn, or bare bytes behind a real socket."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

STOP_S = 20.0


@contextmanager
def application(app: Any, **options: Any) -> Iterator[str]:
    """Its address, for the length of a `with` block; the port listens before its loop runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        config = uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1, **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_S)
            assert not thread.is_alive()


@contextmanager
def bare(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A socket that answers the headers of each request with bytes, and closes the connection without saying so."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    head = b""
                    while b"\r\n\r\n" not in head and (chunk := client.recv(65_536)):
                        head += chunk
                    client.sendall(answer(head))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(STOP_S)


async def read(receive: Any) -> bytes:
    """The body of a request."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def reply(send: Any, body: bytes = b"{}", status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """A whole answer of JSON."""
    named = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})
