"""One address in front of several servers, as a Service of Kubernetes is: each new connection goes to the next one."""

import itertools
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

BLOCK_BYTES = 65_536


@contextmanager
def balancing(urls: Sequence[str]) -> Iterator[str]:
    """The URL of a balancer before these; it forwards bytes and reads none of them."""
    parts = [urlsplit(url) for url in urls]
    turns = itertools.cycle([(part.hostname or "", part.port or 80) for part in parts])
    lock = threading.Lock()

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with lock:
                address = next(turns)
            with socket.create_connection(address) as server:
                back = threading.Thread(target=_pour, args=(server, self.request), daemon=True)
                back.start()
                _pour(self.request, server)
                back.join()

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 512

    with Threads(("127.0.0.1", 0), Forward) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Until one side has ended; then the other one hears of it."""
    with suppress(OSError):
        while block := source.recv(BLOCK_BYTES):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
