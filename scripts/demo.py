"""`make demo`: train, build, verify, release, serve and load churn, show an alert and the gate, stay up until Ctrl-C.

Every step is the real command in its own process; this file only orders them and speaks. It installs nothing
(`setup.sh` did) and needs no network. The invariants: a failing step ends in one message and a status that is not 0;
the server never outlives the demo (`demo_guard.py`); two demos at once do not disturb each other.

Environment: SLIPWAY_DEMO_EXIT=1 ends after the summary, SLIPWAY_DEMO_STARTED=<epoch seconds> is when the command began,
SLIPWAY_HOME is where the bundle goes, SLIPWAY_DEMO_GATE=no leaves out the five comparisons at the end.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from demo_folders import remove_leftovers
from demo_gate import judge_candidates
from demo_release import STEP, production
from demo_report import batches_of, failures, prediction_lines, traffic_lines
from demo_screen import SLIPWAY, StepFailedError, Teller, columns, last_lines, run_step, shown, step_line
from demo_server import Server, serving
from demo_signals import SCALE, Watch, show_alert, watching
from demo_traffic import LOYAL, UNHAPPY, Customers, get_text, predict_once, send_traffic

SERVICE: Final = "services/churn"


def main() -> int:
    """Run the steps; the exit status."""
    started = float(os.environ.get("SLIPWAY_DEMO_STARTED") or time.time())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        return demo(Teller(sys.stdout), started)
    except StepFailedError as error:
        said = f"\n{error.said}" if error.said else ""
        sys.stderr.write(f"\ndemo: {error.what}{said}\nhint: to see more, run `{shown(error.command)}`\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted\n")
        return 130
    except BrokenPipeError:  # whoever read our lines is gone; the server is stopped by now
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def demo(teller: Teller, started: float) -> int:
    """All steps, in order."""
    remove_leftovers()
    teller.heading("slipway demo: from a training script to a served model")
    said = step(teller, 1, "train", [sys.executable, f"{SERVICE}/train.py"])
    teller.finish(1, "train", last_lines(said, 1))
    ref = step(teller, 2, "build", [*SLIPWAY, "bundle", "build", SERVICE]).strip()
    teller.finish(2, "build", ref)
    digest = step(teller, 3, "verify", [*SLIPWAY, "bundle", "verify", ref]).strip()
    teller.finish(3, "verify", "every byte hashed, golden examples replayed in a clean process")
    with contextlib.ExitStack() as opened:
        teller.live(step_line(4, STEP, "..."))
        shipped = opened.enter_context(production(teller))
        deployed = shipped.deliver(ref, digest)
        teller.finish(4, STEP, f"signed, pushed to {shipped.registry}, pulled where policy.toml asks for the signature")
        server = opened.enter_context(serving(teller, deployed, shipped))
        teller.finish(5, "serve", server.url)
        unhappy = answer_of(server, UNHAPPY)
        first_s = time.time() - started
        loyal = answer_of(server, LOYAL)
        watch = opened.enter_context(watching(teller))
        phases = send_traffic(server.port, lambda name, done: teller.live(step_line(6, "traffic", f"{name} {done}")))
        count = sum(len(phase.outcomes) for phase in phases)
        teller.finish(6, "traffic", f"{count} requests: good, bad, in bursts, and in too much of a hurry")
        _, metrics = get_text(server.admin_port, "/metrics")
        failed = failures(phases)
        told: list[str] = []
        if watch is not None and not failed:
            customers = opened.enter_context(contextlib.closing(Customers(server.port)))
            told = show_alert(teller, watch, server, shipped, deployed, customers)
            teller.finish(7, "alert", "a bad release, the page it caused, the rollback that ended it")
        verdicts: list[str] = []
        if not failed and os.environ.get("SLIPWAY_DEMO_GATE") != "no":
            verdicts = judge_candidates(teller)
            teller.finish(8, "gate", "five candidates, each compared with churn under load")

        teller.heading(f"First prediction {first_s:.1f} s after the command began")
        _tell(teller, prediction_lines(unhappy, loyal))
        teller.heading("What the traffic met (client and server share this machine)")
        _tell(teller, traffic_lines(phases, batches_of(metrics)))
        if told:
            teller.heading(f"What on-call saw (every window of the alerts is divided by {SCALE})")
            _tell(teller, told)
        if verdicts:
            teller.heading("What the gate said of five candidates (docs/gate.md)")
            _tell(teller, verdicts)
        _tell_more(teller, server, watch, ref, digest)
        if failed:
            statuses = sorted({outcome.status for outcome in failed})
            raise StepFailedError(
                f"{len(failed)} requests were not answered as they must be: statuses {statuses} (0 = no answer)",
                server.last_words(),
                server.command,
            )
        if os.environ.get("SLIPWAY_DEMO_EXIT") == "1":
            return 0
        stay_up(teller, server)
    return 0


def step(teller: Teller, number: int, name: str, command: list[str]) -> str:
    """Runs one command to its end and gives what it wrote to stdout. Raises StepFailedError."""
    teller.live(step_line(number, name, "..."))
    return run_step(name, command)


def answer_of(server: Server, row: dict[str, Any]) -> float:
    """The churn probability of one customer."""
    try:
        return float(predict_once(server.port, row)["churn_probability"])
    except (OSError, EOFError, TimeoutError, ValueError, KeyError) as error:
        raise StepFailedError(f"the first prediction failed: {error}", server.last_words(), server.command) from error


def stay_up(teller: Teller, server: Server) -> None:
    """Waits for Ctrl-C.

    Raises:
        StepFailedError: The server ended by itself.
    """
    try:
        teller.line()
        teller.line("The server is up. Ctrl-C stops it.")
        status = server.guard.wait()
    except KeyboardInterrupt:
        teller.line("stopping")
        return
    raise StepFailedError(f"the server ended by itself with status {status}", server.last_words(), server.command)


def _tell(teller: Teller, lines: Sequence[str]) -> None:
    for line in lines:
        teller.line(f"  {line}")


def _tell_more(teller: Teller, server: Server, watch: Watch | None, ref: str, digest: str) -> None:
    slipway = shown(SLIPWAY)
    addresses = [
        (f"{server.url}/", "the model's card, and a form to try it"),
        (f"{server.url}/docs", "the API"),
        (f"{server.url}/readyz", "whether it may take traffic"),
        (f"http://127.0.0.1:{server.admin_port}/metrics", "what Prometheus scrapes"),
    ]
    if watch is not None:
        if watch.console_url is not None:
            addresses.append((f"{watch.console_url}/", "whether users are hurt, dashboards, runbooks"))
        addresses.append((watch.monitoring.url, "Prometheus"))
    teller.heading("Look around")
    _tell(teller, columns(addresses))
    teller.heading(f"This is {ref}")
    _tell(teller, [digest])
    teller.heading("What next")
    _tell(
        teller,
        columns(
            [
                (f"{slipway} bundle inspect {ref}", "what is in it"),
                (f"{slipway} client {server.url}", "a typed client, while the server is up"),
                (f"{slipway} new fraud", "your own service, in services/fraud"),
            ]
        ),
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
