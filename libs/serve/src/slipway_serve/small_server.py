"""Serving an application that is no model: one process, one port, until a signal says stop. Console and admission.

It knows no route. The invariants: the port is taken before anything is announced; a signal ends it with a status that
is ours, and a second one at once; nothing of uvicorn's own is logged.
"""

import os
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from slipway_runtime.listeners import listen_tcp

if TYPE_CHECKING:
    from slipway_serve.access.tls import ServerTls

__all__ = ["run_app"]

TICKS: Final = 10
"""uvicorn ticks ten times a second."""


def run_app(
    app: Any,  # ASGI's own untyped callable
    host: str,
    port: int,
    announce: Callable[[str], None],
    *,
    tls: "ServerTls | None" = None,
    on_second: Sequence[Callable[[], None]] = (),
) -> int:
    """Serve until SIGTERM or Ctrl-C; blocks, main thread only.

    Args:
        app: an ASGI application without lifespan.
        host: address to listen on.
        port: 0 chooses a free one.
        announce: told the address when it listens.
        tls: its certificate; None: plain HTTP.
        on_second: called about once a second.

    Returns:
        The exit status: 0, or 130 after Ctrl-C.

    Raises:
        SlipwayError: the port is taken, or may not be.
    """
    listener = listen_tcp(host, port)
    try:
        config = uvicorn.Config(
            app,
            ws="none",
            lifespan="off",  # a second signal would end it with a traceback
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_context_factory=None if tls is None else lambda *_: tls.context,
        )
        server = _Server(config, on_second)
        announce(f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{listener.port}")
        server.run([socket.socket(fileno=os.dup(listener.fd))])
        return server.status
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn's server; a signal ends it, and is not raised again when it has ended: the exit status is ours."""

    status = 0

    def __init__(self, config: uvicorn.Config, on_second: Sequence[Callable[[], None]]) -> None:
        super().__init__(config)
        self._on_second = on_second

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: answer who waits, then end. Second: end now."""
        del frame
        self.force_exit = self.should_exit
        self.should_exit = True
        self.status = 130 if sig == signal.SIGINT else 0

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % TICKS == 0:
            for call in self._on_second:
                call()
        return await super().on_tick(counter)
