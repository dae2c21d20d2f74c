"""Records as the logging module makes them, at a fixed time."""

import logging


def record(message: str = "it_happened", *args: object, extra: dict[str, object] | None = None) -> logging.LogRecord:
    made = logging.getLogger("slipway_serve.worker").makeRecord(
        "slipway_serve.worker", logging.INFO, "file", 1, message, args, None, extra=extra
    )
    made.created = 1_700_000_000.25
    return made
