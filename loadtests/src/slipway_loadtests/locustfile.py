"""Locust's entry: `locust -f …/locustfile.py --plan plan.toml`, with its UI, CSV, `--headless` and `--processes`.

    locust -f loadtests/src/slipway_loadtests/locustfile.py --plan plan.toml --windows windows.jsonl --headless

What is sent, how often and for how long is the plan's; `--users` and `--spawn-rate` mean nothing here, because an open
loop is not made of users. Locust's statistics show the same requests; their percentiles are rounded to two digits, the
windows are not.
"""

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gevent  # type: ignore[import-untyped]  # it ships no types
import msgspec
from gevent.event import Event  # type: ignore[import-untyped]  # the same
from gevent.monkey import get_original  # type: ignore[import-untyped]  # the same
from locust import User, events, task
from locust.runners import LocalRunner, MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from slipway_bundle.errors import FileError, SlipwayError
from slipway_loadtests.conductor import Campaign, Conductor, error_line, single
from slipway_loadtests.open_loop import Heard
from slipway_loadtests.worker import BEGIN, CLOCK, FAILED, PART, PREPARE, READY, STOP, Worker
from slipway_signals.gate.capacity import Search
from slipway_signals.gate.load_plan import decode_plan
from slipway_signals.gate.records import encode_window

STOP_S: Final = 0.7
"""In which a stopped run hands over its last window."""
LOOK_S: Final = 0.5
"""How often a process looks whether it is still wanted."""


class Arrivals(User):
    """Stands in for all callers: locust wants a user, an open loop has none. It waits while the worker sends."""

    host = "the plan's"

    @task
    def be_there(self) -> None:
        """Until locust ends the run."""
        Event().wait()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust types its events little
def _add_options(parser: Any, **_: object) -> None:
    group = parser.add_argument_group("slipway")
    group.add_argument("--plan", default="", env_var="SLIPWAY_LOAD_PLAN", help="The load plan: TOML or JSON")
    group.add_argument("--windows", default="", env_var="SLIPWAY_LOAD_WINDOWS", help="Write windows here, one a line")
    group.add_argument("--search", default="", help="Search the capacity as this JSON text says")


@events.init.add_listener  # type: ignore[untyped-decorator]  # the same
def _join(environment: Any, runner: Any, **_: object) -> None:
    """Give the process its role or, when it is alone, both."""
    if not isinstance(runner, MasterRunner):
        _be_worker(environment, runner)
    if not isinstance(runner, WorkerRunner):
        _be_conductor(environment, runner)


def _be_worker(environment: Any, runner: Any) -> None:
    def heard(request: Heard) -> None:
        environment.events.request.fire(
            request_type=request.arm,
            name=request.payload.path,
            response_time=request.latency_s * 1e3,
            response_length=len(request.reply.body),
            exception=None if request.reply.failed is None else RuntimeError(request.reply.failed),
            context={},
        )

    worker = Worker(runner.send_message, heard, os.environ)
    runner.register_message(PREPARE, lambda msg, **_: worker.prepare(msg.data), concurrent=True)
    runner.register_message(BEGIN, lambda msg, **_: worker.begin(msg.data))
    runner.register_message(STOP, lambda **_: worker.stop())
    if isinstance(runner, WorkerRunner):
        if environment.parsed_options.processes:
            gevent.spawn(_follow, os.getppid())

        @environment.events.quitting.add_listener  # type: ignore[untyped-decorator]  # the same
        def hand_over(**_: object) -> None:
            worker.stop()
            worker.wait(STOP_S)


def _follow(parent: int) -> None:
    """End with the process that forked this one, however that ends: nobody else would."""
    while os.getppid() == parent:
        gevent.sleep(LOOK_S)
    os._exit(1)


def _end_with_reader(place: str) -> None:
    """End with whoever reads the windows, however that ends: after kill -9 nobody else would stop the load."""
    if not place.isdecimal():
        return
    poll = get_original("select", "poll")()  # gevent's own does not see that a pipe has lost its reader
    poll.register(int(place), 0)
    while not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        gevent.sleep(LOOK_S)
    os._exit(1)  # workers of `--processes` follow


def _be_conductor(environment: Any, runner: Any) -> None:
    is_alone = isinstance(runner, LocalRunner)
    state: dict[str, Any] = {"conductor": None, "greenlet": None}

    def begin(**_: object) -> None:
        options = environment.parsed_options
        write = _writer(options.windows)
        conductor = Conductor(
            lambda kind, data, name: runner.send_message(kind, dict(data), name),
            lambda: ["local"] if is_alone else sorted(runner.clients),
            lambda window: None if options.search else write(encode_window(window) + b"\n"),
            is_alone=is_alone,
        )
        state["conductor"] = conductor
        state["greenlet"] = gevent.spawn(_conduct, environment, runner, conductor, write)

    def end(**_: object) -> None:
        if state["conductor"] is not None:
            state["conductor"].stop()
            state["greenlet"].join(STOP_S)

    def told(kind: str) -> Any:
        def hear(msg: Any, **_: object) -> None:
            if state["conductor"] is not None:
                state["conductor"].hear(kind, msg.node_id, msg.data)

        return hear

    gevent.spawn(_end_with_reader, environment.parsed_options.windows)
    for kind in (CLOCK, READY, FAILED, PART):
        runner.register_message(kind, told(kind))
    environment.events.spawning_complete.add_listener(begin)
    environment.events.test_stop.add_listener(end)
    environment.events.quitting.add_listener(end)
    environment.events.quit.add_listener(lambda **_: _let_csv_be_written(environment))


def _let_csv_be_written(environment: Any) -> None:
    """Locust writes its CSV once a second and not when it ends: the last second, or a short run, would be missing."""
    if environment.parsed_options.csv_prefix:
        gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)


def _conduct(environment: Any, runner: Any, conductor: Conductor, write: Callable[[bytes], None]) -> None:
    """One campaign, and the exit status that it ends with."""
    try:
        conductor.conduct(_campaign(environment.parsed_options, write))
        environment.process_exit_code = 0
    except SlipwayError as error:
        environment.process_exit_code = error.exit_status
        sys.stderr.buffer.write(error_line(error))
        sys.stderr.flush()
    if environment.parsed_options.headless:
        gevent.spawn(runner.quit)
    else:
        gevent.spawn(runner.stop)


def _campaign(options: Any, write: Callable[[bytes], None]) -> Campaign:
    plan = decode_plan(_read(options.plan), repr(options.plan))
    if not options.search:
        return single(plan)
    from slipway_loadtests.capacity import search_campaign

    search = msgspec.json.decode(options.search, type=Search)
    return search_campaign(plan, search, lambda step: write(msgspec.json.encode(step) + b"\n"))


def _read(name: str) -> bytes:
    """A file: its path, or its number where it is open already."""
    try:
        if name.isdecimal():
            with os.fdopen(os.dup(int(name)), "rb") as file:
                file.seek(0)
                return file.read()
        return Path(name).read_bytes()
    except OSError as error:
        raise FileError(f"{name!r} cannot be read: {error}", path=name) from error


def _writer(place: str) -> Callable[[bytes], None]:
    """Where lines go: a path, the number of an open file, or nowhere."""
    if not place:
        return lambda _: None
    file = os.fdopen(int(place), "wb", buffering=0) if place.isdecimal() else Path(place).open("wb", buffering=0)  # noqa: SIM115

    def write(line: bytes) -> None:
        file.write(line)

    return write
