"""What the verbs of `slipway load` share: their options as a load plan, and the process that follows it.

It sends nothing: `python -m slipway_loadtests` does, in a process of its own, because Locust patches sockets when it is
imported. The invariant: the process ends with this one; on Ctrl-C it is asked to hand over a last window first.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from slipway_cli.terminal import Terminal

if TYPE_CHECKING:
    from slipway_cli.errors import ProgramFailedError, ToldError
    from slipway_signals.gate.load_plan import LoadPlan
    from slipway_signals.gate.load_summary import ArmSummary, LoadSummary
    from slipway_signals.gate.records import Window

MODULE: Final = "slipway_loadtests"
GRACE_S: Final = 5.0

F = TypeVar("F", bound=Callable[..., object])

PLAN = click.option(
    "--plan", type=click.Path(path_type=Path, dir_okay=False), help="A load plan (TOML or JSON); flags win over it."
)
PATH = click.option("--path", help="Endpoint to post to.  [default: /predict]")
PAYLOADS = click.option(
    "--payloads", type=click.Path(path_type=Path), help="Inputs: JSON lines, or a capture folder.  [default: made]"
)
RATE = click.option("--rate", type=click.FloatRange(0, min_open=True), help="Inputs a second.  [default: 100]")
SECONDS = click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Warm-up included.  [default: 60]")
WARM_UP = click.option("--warm-up-s", type=click.FloatRange(0), help="Left out of the figures.  [default: 5]")
WORKERS = click.option("--workers", type=click.IntRange(1, 64), help="Processes that send.  [default: 1]")
KEY = click.option("--key-env", metavar="NAME", help="Environment variable with the API key or token to send.")
WINDOWS = click.option(
    "--windows", type=click.Path(path_type=Path, dir_okay=False), help="Keep the windows here, one JSON line each."
)


def run_options(command: F) -> F:
    """The options of a run, in the order in which help shows them."""
    for option in (WINDOWS, KEY, WORKERS, WARM_UP, SECONDS, RATE, PAYLOADS, PATH, PLAN):
        command = option(command)
    return command


def plan_of(
    path: Path | None,
    arms: Mapping[str, tuple[str | None, str | None]],
    key_env: str | None,
    endpoint: str | None,
    payloads: Path | None,
    values: Mapping[str, object],
) -> "LoadPlan":
    """The plan of a file, with what the flags say instead.

    Args:
        path: of the file; None: there is none.
        arms: arm → its URL and its admin URL; None where the file says it.
        key_env: of every arm that was given by a flag.
        endpoint: of the first scenario.
        payloads: a file, or a capture folder.
        values: other fields; None are left out.

    Raises:
        ConfigError: what comes of it cannot be followed.
        FileError: the file cannot be read.
    """
    import msgspec

    from slipway_bundle.errors import FileError
    from slipway_signals.gate.load_plan import decode_plan, encode_plan

    raw: dict[str, Any] = {"arms": {}}
    if path is not None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FileError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
        raw = msgspec.json.decode(encode_plan(decode_plan(data, repr(str(path)))))
    for arm, (url, admin) in arms.items():
        given = {"url": url, "admin": admin, "key_env": key_env}
        if told := {name: value for name, value in given.items() if value is not None}:
            raw["arms"][arm] = {**raw["arms"].get(arm, {}), **told}
    scenarios = raw.setdefault("scenarios", [{}])
    if endpoint is not None:
        scenarios[0]["path"] = endpoint
    if payloads is not None:
        source = "capture" if payloads.is_dir() else "file"
        scenarios[0]["payloads"] = {**scenarios[0].get("payloads", {}), "source": source, "path": str(payloads)}
        scenarios[0]["mix"] = {}
    raw |= {name: value for name, value in values.items() if value is not None}
    if "warm_up_s" not in raw and "seconds" in raw:
        raw["warm_up_s"] = min(5.0, raw["seconds"] / 5.0)
    return decode_plan(msgspec.json.encode(raw), "the load plan" if path is None else repr(str(path)))


def follow(verb: str, plan: "LoadPlan", heard: Callable[[bytes], None], search: bytes | None = None) -> None:
    """Start the process, hand on its lines, wait for its end. Blocks for the length of the run.

    Args:
        verb: `run`, `compare`, `find-capacity`.
        plan: what to do.
        heard: each line of its stdout, as soon as it comes.
        search: of `find-capacity`, as JSON.

    Raises:
        ProgramMissingError: the room of load tests is not installed here.
        ToldError: the error that it met.
        ProgramFailedError: it ended otherwise.
    """
    import importlib.util
    import tempfile

    from slipway_cli.errors import ProgramMissingError
    from slipway_signals.gate.load_plan import encode_plan

    if importlib.util.find_spec(MODULE) is None:
        raise ProgramMissingError("slipway-loadtests is not installed here", hint="`pip install slipway-loadtests`")
    # Files without a name: who is killed leaves nothing behind.
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        told.write(encode_plan(plan))
        told.seek(0)
        command = [sys.executable, "-m", MODULE, verb, "--plan", "-", "--windows", "-"]
        if search is not None:
            command += ["--search", search.decode()]
        _watch(command, heard, told, said)


def _watch(command: Sequence[str], heard: Callable[[bytes], None], told: IO[bytes], said: IO[bytes]) -> None:
    process = subprocess.Popen(command, stdin=told, stdout=subprocess.PIPE, stderr=said, process_group=0)
    lines = iter(process.stdout or ())
    try:
        try:
            for line in lines:
                heard(line)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            for line in lines:  # the last window
                heard(line)
            raise
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if status:
        said.seek(0)
        raise _error(said.read())


def _error(said: bytes) -> "ToldError | ProgramFailedError":
    """The error that the process told on its last line."""
    import msgspec

    from slipway_cli.errors import ProgramFailedError, Told, ToldError

    lines = said.decode("utf-8", "replace").strip().splitlines() or [""]
    for line in reversed(lines[-20:]):
        with suppress(msgspec.MsgspecError, KeyError):
            return ToldError(msgspec.json.decode(line, type=dict[str, Told])["error"])
    return ProgramFailedError(f"the load process failed: {lines[-1]}", hint="\n".join(lines[-8:]))


def run_windows(terminal: Terminal, verb: str, plan: "LoadPlan", windows: Path | None) -> "LoadSummary":
    """Follow a plan, say each window, keep them where they are wanted; what it adds up to.

    Raises:
        SlipwayError: as `follow`.
    """
    from slipway_signals.gate.load_summary import summary_of
    from slipway_signals.gate.records import decode_window

    found: list[Window] = []
    with nullcontext() if windows is None else windows.open("wb") as file:

        def heard(line: bytes) -> None:
            window = decode_window(line)
            found.append(window)
            if file is not None:
                file.write(line)
                file.flush()
            terminal.say(_line(window))

        follow(verb, plan, heard)
    return summary_of(found)


def _line(window: "Window") -> str:
    arms = []
    for name, counts in window.arms.items():
        failed = sum(counts.failed.values())
        p99 = f"p99 {counts.latency_us.quantile(0.99) / 1e3:.1f} ms" if counts.succeeded else "no answer"
        arms.append(f"{name} {counts.succeeded} ok, {failed} failed, {p99}")
    mark = " (warm-up)" if window.is_warm_up else ""
    return f"{window.end_s:6.1f} s  {'; '.join(arms)}{mark}"


def show(terminal: Terminal, summary: "LoadSummary") -> None:
    """The figures of a run as a table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("arm", "sent", "ok", "failed", "p50", "p95", "p99", "p99.9", "max"):
        table.add_column(title, justify="left" if title == "arm" else "right")
    for name, arm in summary.arms.items():
        table.add_row(name, f"{arm.sent:,}", f"{arm.succeeded:,}", _failed(arm), *_times(arm))
    terminal.draw(table)
    slip = "" if summary.slip_p99_s is None else f", p99 sent {summary.slip_p99_s * 1e3:.1f} ms late"
    terminal.say(
        f"{summary.offered:,} inputs in {summary.seconds:.1f} s, {summary.dropped:,} dropped; generator at "
        f"{summary.cpu_share:.0%} of a core{slip}"
    )
    if summary.cpu_share > 0.9:
        terminal.warn("the generator was busy: these figures are partly its own; use more --workers")


def _failed(arm: "ArmSummary") -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(arm.failed.items()))
    return reasons or "0"


def _times(arm: "ArmSummary") -> list[str]:
    names = ("p50", "p95", "p99", "p99.9", "max")
    return [f"{arm.latency_s[name] * 1e3:.1f} ms" if name in arm.latency_s else "-" for name in names]
