"""`python -m slipway_loadtests VERB --plan FILE`: a load run in this process, without Locust's UI.

    python -m slipway_loadtests compare --plan plan.toml --windows windows.jsonl

It parses one line and hands over to Locust: what follows `--` goes to Locust as it is (`-- --csv run`). stdin is read
with `--plan -` only. stdout holds windows only, and only with `--windows -`; Locust's words go to stderr. Errors are
one JSON line on stderr; the exit status is 0, or the error's. SIGTERM ends the run with a last window.
"""

import argparse
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from slipway_bundle.errors import ConfigError, FileError, SlipwayError
from slipway_signals.gate.load_plan import LoadPlan, decode_plan

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")


def main(arguments: Sequence[str]) -> int:
    """Check the plan, then become Locust; gives the exit status only where there was no run."""
    ours, _, locusts = _split(arguments)
    options = _options(ours)
    try:
        data = _read(options.plan)
        plan = decode_plan(data, "stdin" if options.plan == "-" else repr(options.plan))
        if options.verb == "compare" and len(plan.arms) < 2:
            raise ConfigError(f"the load plan names {', '.join(plan.arms)} only, expected two arms to compare")
    except SlipwayError as error:
        sys.stderr.buffer.write(msgspec.json.encode({"error": error.as_dict()}) + b"\n")
        return error.exit_status
    windows = options.windows
    if windows == "-":
        windows = str(os.dup(1))
        os.dup2(2, 1)  # whatever else prints goes to stderr
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    kept = str(_kept(data)) if options.plan == "-" else str(Path(options.plan).absolute())  # a name is no number
    sys.argv = ["locust", *_line(options, plan, kept, windows), *locusts]
    from locust.main import main as locust

    locust()  # type: ignore[no-untyped-call]  # it has no types
    return 0


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:place]), "--", list(arguments[place + 1 :])


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m slipway_loadtests", description=__doc__)
    parser.add_argument("verb", choices=("run", "compare", "find-capacity"))
    parser.add_argument("--plan", required=True, help="the load plan: TOML or JSON; - is stdin")
    parser.add_argument("--windows", default="", help="write windows here, one JSON line each; - is stdout")
    parser.add_argument(
        "--search", help="find-capacity: what is promised, as JSON text; each try is a line instead of a window"
    )
    return parser.parse_args(arguments)


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise FileError(f"the load plan {name!r} cannot be read: {error}", path=name) from error


def _kept(data: bytes) -> int:
    """The number of an open file without a name that has it: stdin can be read once, and Locust's file reads again."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return os.dup(file.fileno())


def _line(options: argparse.Namespace, plan: LoadPlan, kept: str, windows: str) -> list[str]:
    """Locust's own command line; `kept` is the path of the plan, or the number of an open file."""
    line = ["-f", str(LOCUSTFILE), "--headless", "--skip-log-setup", "--only-summary", "--plan", kept]
    line += ["-u", str(plan.workers), "-r", "100"]
    if windows:
        line += ["--windows", windows]
    if options.search is not None:
        line += ["--search", options.search]
    if plan.workers > 1:
        port = str(_free_port())
        line += ["--processes", str(plan.workers), "--master-bind-host", "127.0.0.1"]
        line += ["--master-bind-port", port, "--master-port", port, "--master-host", "127.0.0.1"]
    return line


def _free_port() -> int:
    """For the master: two runs on one machine must not meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
