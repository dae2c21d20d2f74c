"""The thread that writes log lines: nobody waits for it, what waits is bounded, and what is lost is told."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from log_records import record

from slipway_signals.logs import LoggingConfig, configure_logging
from slipway_signals.logs_lines import JsonFormatter
from slipway_signals.logs_writer import WAITING, LineBudget, LineHandler
from slipway_signals.slotfile import Metric
from slipway_signals.slots import Slots

DROPPED = Metric("slipway_telemetry_dropped_total", "counter", "", ("signal",))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def lines_of(read: int, size: int = 1 << 20) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(read, size).splitlines()]


def handler_at(write: int, *, per_s: float = 1e6, now: float = 1.0) -> LineHandler:
    handler = LineHandler(write, LineBudget(per_s, per_s), clock=lambda: now)
    handler.setFormatter(JsonFormatter("api-0"))
    return handler


def test_lines_over_the_rate_are_dropped_counted_and_told(pipe: tuple[int, int]) -> None:
    read, write = pipe
    slots, fd = Slots.create()
    os.close(fd)
    dropped = slots.counter(DROPPED, "logs")
    clock = [1.0]
    handler = LineHandler(write, LineBudget(10, 10), clock=lambda: clock[0])
    handler.setFormatter(JsonFormatter("api-0"))
    for number in range(20):
        handler.handle(record("line %d", number))

    handler.count_drops(dropped)
    handler.handle(record("line 20"))
    clock[0] += 1.0
    handler.handle(record("line 21"))
    handler.close()

    events = [(line["event"], line.get("lines")) for line in lines_of(read)]
    assert events == [*((f"line {n}", None) for n in range(10)), ("log_lines_dropped", 11), ("line 21", None)]
    assert dropped.value == 11


def test_a_log_that_nobody_reads_holds_up_nobody(pipe: tuple[int, int]) -> None:
    """The pipe is full after 64 KiB; what then waits is bounded, and the rest is lost."""
    read, write = pipe
    handler = handler_at(write)
    said = 5_000

    done = threading.Event()

    def speak() -> None:
        for number in range(said):
            handler.handle(record("line %d", number, extra={"why": "x" * 200}))
        done.set()

    threading.Thread(target=speak, daemon=True).start()

    assert done.wait(20.0)
    assert len(handler._lines) <= WAITING < said // 2  # the writer may just have taken some into the pipe
    assert handler._lost > 0
    while handler._lines:
        os.read(read, 1 << 20)
    handler.close()


def test_the_line_that_tells_of_lost_ones_needs_a_place_too(pipe: tuple[int, int]) -> None:
    read, write = pipe
    handler = handler_at(write)
    nearly_a_page: dict[str, object] = {f"why_{number}": "x" * 250 for number in range(13)}
    while not handler._lost:
        handler.handle(record("line", extra=nearly_a_page))
    os.read(read, len(cast("bytes", handler._lines[0])))  # which makes room in the pipe for one
    while len(handler._lines) == WAITING:
        threading.Event().wait(0.001)

    for _ in range(3):
        handler.handle(record("line"))

    assert len(handler._lines) <= WAITING
    while handler._lines:
        os.read(read, 1 << 20)
    handler.close()


def test_a_process_that_closed_its_log_ends_at_once(pipe: tuple[int, int]) -> None:
    """The logging module flushes every handler once more at the end: each `slipway serve` took 1 s longer to stop."""
    handler = handler_at(pipe[1])
    handler.close()

    asked_at = time.monotonic()
    handler.flush()

    assert time.monotonic() - asked_at < 0.5


def test_lines_of_many_threads_do_not_mix(pipe: tuple[int, int]) -> None:
    read, write = pipe
    handler = handler_at(write)
    threads = [
        threading.Thread(target=lambda: [handler.handle(record("x" * 400)) for _ in range(20)]) for _ in range(5)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.close()

    assert [line["event"] for line in lines_of(read)] == ["x" * 400] * 100


def test_the_output_hands_its_rate_to_the_request_log(pipe: tuple[int, int]) -> None:
    read, write = pipe
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions)
    try:
        output = configure_logging("api-0", LoggingConfig(requests_per_s=1, format="json"), fd=write)
        requests = output.requests()
        for _ in range(5):
            requests.completed("/predict", "POST", 500, 0.001)
        output.close()
    finally:
        root.handlers[:], level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before
        root.setLevel(level)
        logging.captureWarnings(capture=False)

    lines = lines_of(read)
    assert [(line["event"], line.get("status"), line.get("lines")) for line in lines] == [
        ("request_completed", 500, None),
        ("request_completed", 500, None),
    ]
