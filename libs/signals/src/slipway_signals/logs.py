"""Where the log of a process goes, and in which form: called once, first thing in `main` of every process.

    output = configure_logging("api-0", config)
    output.count_drops(slots, "api")

The invariant: after it, everything that is said by the standard `logging` module, by `warnings` and by exceptions that
nobody caught is one line each on standard error. Lines: `logs_lines`; never waiting: `logs_writer`; requests:
`logs_requests`.
"""

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from slipway_signals.logs_lines import JsonFormatter, TextFormatter
from slipway_signals.logs_requests import RequestLog
from slipway_signals.logs_writer import LineBudget, LineHandler
from slipway_signals.metrics import TELEMETRY_DROPPED, ProcessKind
from slipway_signals.metrics_traces import DROPPED_LOGS
from slipway_signals.slots import Slots

__all__ = ["LogOutput", "LoggingConfig", "RequestLog", "configure_logging"]

CHATTY: Final = ("uvicorn.error", "httpx", "httpcore", "urllib3", "grpc", "opentelemetry")
"""They say a line for each connection or request; from `warning` on they are heard."""
BURST_S: Final = 5.0

_process = logging.getLogger("slipway.process")


class LoggingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.logging]`."""

    format: Literal["auto", "json", "text"] = "auto"
    """`auto`: text where standard error is a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    lines_per_s: Annotated[float, Meta(gt=0, le=100_000)] = 200.0
    """Lines that one process writes in a second, after a burst of five seconds' worth; more are dropped and counted."""
    requests_per_s: Annotated[float, Meta(gt=0, le=100_000)] = 50.0
    """Of these, lines about requests."""
    requests_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Without traces: share of the answered requests that get a line. 5xx always get one."""


class LogOutput:
    """The log of this process, as configured."""

    def __init__(self, handler: LineHandler, config: LoggingConfig) -> None:
        self._handler = handler
        self._config = config

    def count_drops(self, slots: Slots, process: ProcessKind) -> None:
        """Count lines that are not written, those until now included, once the process has its slots."""
        self._handler.count_drops(slots.counter(TELEMETRY_DROPPED, DROPPED_LOGS, process))

    def requests(self) -> RequestLog:
        """What tells the log about requests."""
        config = self._config
        return RequestLog(ratio=config.requests_ratio, per_s=config.requests_per_s, lose=self._handler.lose)

    def close(self) -> None:
        """Write what waits, for up to 1 s, and take the handler away. What is said later goes nowhere."""
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()


def configure_logging(process: str, config: LoggingConfig | None = None, *, fd: int = 2) -> LogOutput:
    """Make this process log to `fd`, in place of what was configured before. Starts a thread; main thread only.

    Args:
        process: what the process is called in each line: `supervisor`, `api-0`, `dispatcher`, `runner-…`.
        config: `[runtime.logging]`.
        fd: standard error, unless a test says otherwise.
    """
    config = config or LoggingConfig()
    is_text = config.format == "text" or (config.format == "auto" and os.isatty(fd))
    handler = LineHandler(fd, LineBudget(config.lines_per_s, config.lines_per_s * BURST_S))
    handler.setFormatter(TextFormatter(process) if is_text else JsonFormatter(process))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(config.level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a log line is never worth a traceback on standard error
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    return LogOutput(handler, config)


def _uncaught(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _process.critical("uncaught", exc_info=(kind, error, stack))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None:
        thread = told.thread.name if told.thread is not None else ""
        _process.critical(
            "uncaught_in_thread",
            exc_info=(told.exc_type, told.exc_value, told.exc_traceback),
            extra={"thread_name": thread},
        )
