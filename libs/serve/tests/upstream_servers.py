"""Real servers for the tests of `Upstream`: uvicorn in a thread, which keeps what it was asked and answers as told."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import uvicorn

STOP_S = 20.0


class Seen(NamedTuple):
    """A request as the server got it."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What the server says; `hangs` means: nothing, until the client leaves."""

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b"{}"
    hangs: bool = False


class Neighbour:
    """An ASGI application; `answer` gets the number of the request, from 0, and may be changed at any time."""

    def __init__(self, answer: Callable[[int], Reply]) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.left = threading.Semaphore(0)
        """Released once for each client that left without an answer."""
        self.url = ""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        reply = self.answer(len(self.seen))
        self.seen.append(Seen(time.monotonic(), scope["path"], headers, body))
        if reply.hangs:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.release()
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)})
        await send({"type": "http.response.body", "body": reply.body})


@contextmanager
def neighbour(answer: Callable[[int], Reply] = lambda _: Reply()) -> Iterator[Neighbour]:
    """A server for the length of a `with` block; its port listens before its loop runs, so nobody has to wait."""
    application = Neighbour(answer)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        application.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(application, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield application
        finally:
            server.should_exit = True
            thread.join(STOP_S)
            assert not thread.is_alive()


@contextmanager
def closed_port() -> Iterator[str]:
    """The address of a port where nobody listens, and nobody else can while the block runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
