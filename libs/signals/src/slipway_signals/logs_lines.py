"""One log record as one line: JSON for machines, text for a terminal. Pure but for the request that it asks after.

It writes nothing (`logs_writer`) and configures nothing (`logs`). The invariants: one record is one line of at most
`LINE_BYTES`, whatever strings are in it, so lines of several processes in one pipe never mix and always parse; of
`extra` only single numbers, words and paths are written, never arrays, rows, bytes or mappings, so no payload gets in
by a slip.
"""

import logging
import os
import time
import traceback
from pathlib import PurePath
from typing import Final

import msgspec

from slipway_signals.traces_record import current_trace

__all__ = ["LINE_BYTES", "JsonFormatter", "TextFormatter"]

LINE_BYTES: Final = 4_096
"""POSIX writes so many bytes to a pipe in one piece (`PIPE_BUF` of Linux)."""
MESSAGE_CHARACTERS: Final = 1_000
VALUE_CHARACTERS: Final = 256
EXTRAS: Final = 24
KEY_CHARACTERS: Final = 48
_STACK_CHARACTERS: Final = 1_800

_KNOWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})

Value = str | int | float | bool | None


class JsonFormatter(logging.Formatter):
    """A JSON object: `ts level logger event process pid`, the request if there is one, `extra`, the exception.

    Inside a request: `trace_id`, `span_id`, `route`, and `model` of the last model that answered.

    Args:
        process: what this process is called: `api-0`, `dispatcher`, `runner-detect-1`.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        self._encode = msgspec.json.Encoder().encode

    def format(self, record: logging.LogRecord) -> str:
        """One line without its end. About 6 µs."""
        line: dict[str, Value] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": _clean(record.name, VALUE_CHARACTERS),
            "event": _clean(_message(record), MESSAGE_CHARACTERS),
            "process": self._process,
            "pid": os.getpid(),
            **_request(),
        }
        if record.exc_info is not None and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = _clean(f"{type(error).__name__}: {_words(error)}", MESSAGE_CHARACTERS)
            line["stack"] = _clean_tail("".join(traceback.format_exception(error)), _STACK_CHARACTERS)
        for key, value in _extras(record):
            line[f"{key}_" if line.get(key, value) != value else key] = value  # what is said twice is written once
        return self._bounded(line)

    def _bounded(self, line: dict[str, Value]) -> str:
        """The line, cut until it fits: the stack first, then extras from the last one, then the words."""
        data = self._encode(line)
        while len(data) >= LINE_BYTES:
            longest = max(
                (key for key, value in line.items() if isinstance(value, str)), key=lambda key: len(_text(line[key]))
            )
            text = _text(line[longest])
            line[longest] = text[-(len(text) // 2) :] if longest == "stack" else text[: len(text) // 2]
            data = self._encode(line)
        return data.decode()


class TextFormatter(logging.Formatter):
    """One line for a person: time, level, process, logger, words, `key=value`. Exceptions take several lines."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line without its end; after it, indented, the exception."""
        words = [
            time.strftime("%H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}",
            f"{record.levelname:<7}",
            self._process,
            _visible(record.name),
            _visible(_clean(_message(record), MESSAGE_CHARACTERS)),
            *(f"{key}={_visible(str(value))}" for key, value in dict.fromkeys((*_request().items(), *_extras(record)))),
        ]
        text = " ".join(words)
        if record.exc_info is not None and record.exc_info[1] is not None:
            stack = "".join(traceback.format_exception(record.exc_info[1]))
            text += "\n" + "\n".join(f"    {_visible(row)}" for row in _clean_tail(stack, LINE_BYTES).splitlines())
        return text


def _request() -> dict[str, Value]:
    trace = current_trace.get()
    if trace is None:
        return {}
    trace_id, span_id = trace.ids()
    about: dict[str, Value] = {"trace_id": f"{trace_id:032x}", "span_id": f"{span_id:016x}", "route": trace.route}
    if trace.steps:
        about["model"] = trace.steps[-1].model
    return about


def _message(record: logging.LogRecord) -> str:
    """The words; a record whose arguments do not fit its words is told as it is, not raised about."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments may be of any class, and their `__str__` may do anything
        return f"{record.msg!s:.200} (its arguments do not fit)"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - as above
        return "its words cannot be told"


def _extras(record: logging.LogRecord) -> list[tuple[str, Value]]:
    """Of what `extra` named in code: a key that is no name was made from data, and is left out."""
    own = [(key, value) for key, value in vars(record).items() if key not in _KNOWN]
    named = [(key, value) for key, value in own if key.isidentifier() and key.isascii() and len(key) <= KEY_CHARACTERS]
    return [(key, _scalar(value)) for key, value in named[:EXTRAS]]


def _scalar(value: object) -> Value:
    """What may be written of a value: itself when it is one number or word, else only what it is."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)[:VALUE_CHARACTERS]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str | PurePath):
        return _clean(str(value), VALUE_CHARACTERS)
    if isinstance(value, BaseException):
        return _clean(f"{type(value).__name__}: {_words(value)}", VALUE_CHARACTERS)
    return f"<{type(value).__name__}>"


def _clean(text: str, most: int) -> str:
    """Cut, and with every character of it one that UTF-8 can carry."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _clean_tail(text: str, most: int) -> str:
    return _clean(text if len(text) <= most else "…" + text[-most + 1 :], most)


def _visible(text: str) -> str:
    """Without line ends and control characters: a terminal must not obey what a client sent."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1_000):03d}Z"
