import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from log_records import record

from slipway_signals.logs_lines import LINE_BYTES, JsonFormatter, TextFormatter
from slipway_signals.logs_requests import RequestLog
from slipway_signals.traces_record import RequestTrace, Step, current_trace


def raised(error: Exception) -> tuple[type[Exception], Exception, TracebackType | None]:
    """What a handler of `error` sees."""
    with pytest.raises(type(error)) as caught:
        raise error
    return type(error), error, caught.tb


def in_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter("api-0").format(made)
    assert "\n" not in line
    assert len(line.encode()) < LINE_BYTES
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture
def request_trace() -> Iterator[RequestTrace]:
    trace = RequestTrace("/predict", "POST", "/predict", 1.0, None, False)
    token = current_trace.set(trace)
    yield trace
    current_trace.reset(token)


def test_a_line_says_when_where_and_what() -> None:
    line = in_json(record("dispatcher_lost: %s", "gone", extra={"outstanding": 3, "ratio": 0.5, "is_late": True}))

    assert line.pop("pid") == os.getpid()
    assert line == {
        "ts": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "slipway_serve.worker",
        "event": "dispatcher_lost: gone",
        "process": "api-0",
        "outstanding": 3,
        "ratio": 0.5,
        "is_late": True,
    }


def test_inside_a_request_a_line_says_which(request_trace: RequestTrace) -> None:
    """Not like BentoML#4367, whose monitoring logs have no span id."""
    request_trace.step(Step("churn", 1.0, 2.0))

    line = in_json(record())

    trace_id, span_id = request_trace.ids()
    assert (line["trace_id"], line["span_id"]) == (f"{trace_id:032x}", f"{span_id:016x}")
    assert (line["route"], line["model"]) == ("/predict", "churn")


def test_what_a_line_says_of_its_request_is_not_said_twice(request_trace: RequestTrace) -> None:
    line = in_json(record(extra={"route": "/predict", "model": "churn"}))

    assert (line["route"], line["model"]) == ("/predict", "churn")
    assert "route_" not in line


def test_rows_arrays_and_bodies_never_get_into_a_line() -> None:
    secret: dict[str, object] = {"row": [0.123456, 2.0], "body": b"0.123456", "headers": {"key": "0.123456"}}
    secret["call"] = {0.123456}

    line = in_json(record(extra=secret))

    assert "0.123456" not in json.dumps(line)
    assert (line["row"], line["body"], line["headers"], line["call"]) == ("<list>", "<bytes>", "<dict>", "<set>")


def test_an_extra_does_not_hide_what_every_line_has() -> None:
    line = in_json(record("it_happened", extra={"level": "none", "event": "no", "pid": 1}))

    assert (line["level"], line["event"], line["pid"]) == ("info", "it_happened", os.getpid())
    assert (line["level_"], line["event_"], line["pid_"]) == ("none", "no", 1)


def test_an_exception_is_in_its_line() -> None:
    made = record("model_failed")
    made.exc_info = raised(ValueError("no\nsuch row"))

    line = in_json(made)

    assert line["error"] == "ValueError: no\nsuch row"
    assert "test_signals_logs.py" in line["stack"]


@given(st.text(st.characters(exclude_categories=()), max_size=3_000), st.text(st.characters(exclude_categories=())))
@example("\udc80\r\n\x00\x1b\u2028", "x")
def test_no_string_breaks_a_line(text: str, key: str) -> None:
    """Line ends, control characters and lone surrogates; and it fits into one write to a pipe."""
    made = record("%s", text, extra={"why": text, "more": text, "ok": 1})
    made.__dict__.setdefault(key, text)

    line = in_json(made)

    assert line["process"] == "api-0"
    assert "\n" not in TextFormatter("api-0").format(made)


def test_the_longest_line_still_parses_and_keeps_its_numbers() -> None:
    extra: dict[str, object] = {f"key_{number}": "\x01" * 5_000 for number in range(40)}
    extra["key_0"] = 7
    made = record("\x02" * 5_000, extra=extra)
    made.exc_info = raised(ValueError("\x03" * 9_000))

    line = in_json(made)

    assert (line["level"], line["key_0"]) == ("info", 7)


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_record_that_cannot_be_formatted_is_told_as_it_is() -> None:
    assert in_json(record("%d rows", "many"))["event"] == "%d rows (its arguments do not fit)"
    assert "do not fit" in in_json(record("%s", Rude()))["event"]
    assert in_json(record(extra={"who": Rude()}))["who"] == "<Rude>"


def test_a_terminal_is_never_told_what_to_do() -> None:
    text = TextFormatter("api-0").format(record("path %s", "/\x1b[2J\x9b31m\r\nforged", extra={"why": "\x07"}))

    assert text.isprintable()
    assert "\\x1b[2J" in text


def run(code: str, tmp_path: Path) -> tuple[int, list[str]]:
    """A process that logs to its standard error."""
    script = tmp_path / "script.py"
    script.write_text("import logging, warnings, threading, sys, random\n" + code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, check=False, timeout=60)
    return done.returncode, done.stderr.decode().splitlines()


def test_everything_a_process_says_is_one_line_of_json_each(tmp_path: Path) -> None:
    code = """
from slipway_signals.logs import configure_logging
configure_logging("runner-a")
logging.getLogger("a").info("first")
logging.getLogger("httpx").info("a line for each request")
warnings.warn("old\\nway")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end")
"""
    status, lines = run(code, tmp_path)

    said = [json.loads(line) for line in lines]
    assert status == 1
    assert [line["event"].splitlines()[0].rpartition(" ")[2] for line in said] == [
        "first",
        "old",
        "uncaught_in_thread",
        "uncaught",
    ]
    assert said[2]["error"].startswith("ZeroDivisionError")
    assert said[3]["error"] == "RuntimeError: the end"
    assert {line["process"] for line in said} == {"runner-a"}


def test_text_is_for_a_terminal_and_for_who_asks(tmp_path: Path) -> None:
    code = """
from slipway_signals.logs import LoggingConfig, configure_logging
configure_logging("api-0", LoggingConfig(format="text", level="warning"))
logging.getLogger("a").info("not heard")
logging.getLogger("a").warning("heard", extra={"rows": 3})
"""
    _, lines = run(code, tmp_path)

    assert len(lines) == 1
    assert lines[0].endswith("WARNING api-0 a heard rows=3")


def test_configuring_twice_says_each_line_once(tmp_path: Path) -> None:
    code = """
from slipway_signals.logs import configure_logging
logging.basicConfig()
configure_logging("api-0")
last = configure_logging("api-0")
logging.getLogger("a").info("once")
last.close()
logging.getLogger("a").info("after the end")
"""
    _, lines = run(code, tmp_path)

    assert [json.loads(line)["event"] for line in lines] == ["once"]


class Told:
    """What a request log says: the fields of its lines, and how many it lost."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *, ratio: float = 0.0, per_s: float = 1e6) -> None:
        caplog.set_level(logging.INFO)
        self._caplog = caplog
        self.lost = 0
        self.log = RequestLog(ratio=ratio, per_s=per_s, lose=self._lose, clock=lambda: 1.0)

    def _lose(self) -> None:
        self.lost += 1

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [vars(one) for one in self._caplog.records if one.message == "request_completed"]


def test_every_failed_request_has_its_line_and_others_a_share(caplog: pytest.LogCaptureFixture) -> None:
    told, all_of_them = Told(caplog), Told(caplog, ratio=1.0)

    for status in (200, 404, 499, 500, 503):
        told.log.completed("/predict", "POST", status, 0.0123)
    failed = [(line["status"], line["took_ms"]) for line in told.lines]
    all_of_them.log.completed("/predict", "POST", 200, 0.0123)

    assert failed == [(500, 12.3), (503, 12.3)]
    assert told.lines[-1]["status"] == 200


def test_a_request_has_a_line_when_its_trace_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    told = Told(caplog, ratio=1.0)
    kept = RequestTrace("/predict", "POST", "/predict", 1.0, None, True, kept="slow")
    kept.step(Step("churn", 1.0, 2.0, None, "pool"))

    told.log.completed("/predict", "POST", 200, 1.0, RequestTrace("/predict", "POST", "/", 1.0, None, False))
    told.log.completed("/predict", "POST", 200, 1.0, kept)

    assert [(line["kept"], line["model"], line["lane"]) for line in told.lines] == [("slow", "churn", "pool")]


def test_a_flood_of_failures_is_bounded_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    told = Told(caplog, per_s=50)

    for _ in range(1_000):
        told.log.completed("/predict", "\nPOST", 503, 0.001)

    assert len(told.lines) == 100
    assert told.lost == 900
    assert {line["method"] for line in told.lines} == {"OTHER"}
