import multiprocessing
import os
import select
import subprocess
import sys

import msgspec
from piped_traces import ORIGIN, ended

from slipway_signals.traces_context import parse_context
from slipway_signals.traces_pipe import Ended, Load, TraceLines, TraceWriter, open_pipe
from slipway_signals.traces_record import RequestTrace, Step


def read_all(reading: int) -> tuple[list[Ended], int]:
    """What is in a pipe, and how many lines were broken."""
    lines = TraceLines(reading)
    found: list[Ended] = []
    while lines.wait(0.0, reading):
        found += lines.take(1_000)
    return found, lines.broken


def write_many(writing: int, number: int, count: int) -> None:
    writer = TraceWriter(writing, ORIGIN)
    for _ in range(count):
        trace = ended()
        trace.error_type = f"process {number} " + "x" * number * 200
        while not writer.write(trace):
            select.select([], [writing], [], 1.0)  # full until the test reads


class Frame(msgspec.Struct, array_like=True, tag=5):
    """What a pool's lane hands over."""

    number: int
    rows: int
    sent_at: float
    started_at: float
    compute_s: float
    reason: str
    replica: str
    result: str = "secret"


def test_a_request_arrives_as_it_was_written() -> None:
    reading, writing = open_pipe()
    remote = parse_context(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"a=1")
    trace = RequestTrace("/predict", "POST", "/predict", 1.5, remote, is_sampled=True)
    trace.received, trace.ended, trace.status, trace.kept = 1.6, 2.25, 200, "sampled"
    trace.step(Step("churn", 1.7, 1.9, None, "pool"))
    ids = trace.ids()

    TraceWriter(writing, ORIGIN).write(trace)

    (found,), broken = read_all(reading)
    assert broken == 0
    assert found.origin == ORIGIN
    assert found.request is not None
    assert found.request.ids() == ids
    assert found.request.steps == trace.steps
    assert (found.request.started, found.request.received, found.request.ended) == (1.5, 1.6, 2.25)
    assert found.request.remote == remote


def test_of_a_batch_only_its_facts_are_told() -> None:
    """A pool's are the frame that brought the answers along."""
    reading, writing = open_pipe()
    trace = ended()
    answered = Frame(number=7, rows=3, sent_at=1.5, started_at=1.6, compute_s=0.1, reason="full", replica="churn-0")
    trace.step(Step("churn", 1.4, 1.9, answered, "pool"))

    TraceWriter(writing, ORIGIN).write(trace)

    raw = os.read(reading, 4_096)
    os.write(writing, raw)
    (found,), _ = read_all(reading)
    assert b"secret" not in raw
    assert found.request is not None
    (step,) = found.request.steps or []
    assert step.batch is not None
    told = step.batch
    assert (told.number, told.rows, told.reason, told.replica) == (7, 3, "full", "churn-0")
    assert (told.sent_at, told.started_at, told.compute_s) == (1.5, 1.6, 0.1)


def test_a_request_without_a_caller_keeps_the_ids_that_its_exemplar_has() -> None:
    reading, writing = open_pipe()
    trace = ended()

    TraceWriter(writing, ORIGIN).write(trace)

    (found,), _ = read_all(reading)
    assert found.request is not None
    assert found.request.ids() == trace.ids()


def test_lines_of_many_processes_do_not_mix() -> None:
    """Not like otel-python#3307: what is made before a worker starts is a pipe, and that works on both sides."""
    reading, writing = open_pipe()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_many, args=(writing, number, 300)) for number in range(1, 5)]

    for process in processes:
        process.start()
    lines, seen = TraceLines(reading), {f"process {number} " + "x" * number * 200: 0 for number in range(1, 5)}
    while sum(seen.values()) < 1_200 and lines.wait(30.0, reading):
        for one in lines.take(100):
            assert one.request is not None
            seen[one.request.error_type] += 1
    for process in processes:
        process.join(30.0)

    assert set(seen.values()) == {300}
    assert lines.broken == 0


def test_a_reader_that_is_replaced_misses_one_line_at_most() -> None:
    reading, writing = open_pipe()
    writer = TraceWriter(writing, ORIGIN)
    written = sum(writer.write(ended()) for _ in range(1_000))
    taken = os.read(reading, 1 << 16)  # the first reader, and it died
    if taken.endswith(b"\n"):
        taken += os.read(reading, 1)  # so that the last line is always there in part

    found, broken = read_all(reading)

    assert broken == 1
    assert 0 < len(found) == written - taken.count(b"\n") - broken


def test_a_request_with_too_many_steps_for_a_line_loses_steps_not_itself() -> None:
    reading, writing = open_pipe()
    trace = ended()
    for _ in range(64):
        trace.step(Step("a-model-with-a-rather-long-name" * 2, 1.123456789, 2.123456789, None, "pool"))

    assert TraceWriter(writing, ORIGIN).write(trace)

    (found,), _ = read_all(reading)
    assert found.request is not None
    assert 0 < len(found.request.steps or []) < 64


def test_what_cannot_be_said_in_one_line_is_refused() -> None:
    _, writing = open_pipe()
    trace = ended()
    trace.error_type = "x" * 10_000

    assert not TraceWriter(writing, ORIGIN).write(trace)
    assert not TraceWriter(writing, ORIGIN).write_load(Load("m" * 10_000, 1.0, 2.0))


def test_without_a_reader_a_request_is_refused_and_nothing_is_raised() -> None:
    reading, writing = open_pipe()
    writer = TraceWriter(writing, ORIGIN)
    os.close(reading)

    assert not writer.write(ended())


def test_ids_of_a_forked_child_are_its_own() -> None:
    """A service may fork, and may seed `random`; neither repeats an id."""
    code = """
import os, random
from slipway_signals.traces_record import RequestTrace
random.seed(1)
if os.fork():
    os.wait()
random.seed(1)
print(RequestTrace("/p", "POST", "/p", 1.0, None, False).ids(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)

    assert len(set(done.stdout.splitlines())) == 2


def test_who_answers_requests_never_imports_opentelemetry() -> None:
    code = """
import sys
from slipway_signals import Slots
from slipway_signals.tracing import Tracer, TracingConfig
from slipway_signals.traces_pipe import Origin, TraceWriter, open_pipe
slots, fd = Slots.create()
route = Tracer(TracingConfig(), TraceWriter(open_pipe()[1], Origin("churn")), slots).route("/predict")
assert route.end(route.begin("POST", "/predict", {}, 1.0), 500, 2.0)
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]"
