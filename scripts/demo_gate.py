"""The demo's last step: five candidates, compared with churn under load, and what the gate says of each.

Each candidate is churn with a few lines more, built into a bundle and served beside the stable one; the gate does not
know which is which. The invariants: every verdict in the table is the gate's own, out of evidence that
`slipway gate replay` computes again; a bad candidate that passes ends the demo with an error. All are built and up
before the first load, because what starts beside a measurement is measured, too. What could have been decided, and was
not because somebody else worked on the machine, is compared once more; the table says so.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo_folders import scratch
from demo_screen import ROOT, SLIPWAY, StepFailedError, Teller, run_step, step_line
from gate_arms import ArmServer, arm_server
from monitoring import Running

STEP: Final = "gate"
NUMBER: Final = 8
SERVICE: Final = ROOT / "services" / "churn"
REPORTS: Final = ROOT / ".tools" / "demo-gate"
AT_ONCE: Final = 2
"""Bundles that are built, and servers that are started, beside each other; each takes a core."""
RUN_S: Final = 60.0
"""Of one comparison, by force; they end within some seconds."""

PLAN: Final = """\
at_least_s = 5
block_s = 1
[load]
rate = 300
seconds = 20
warm_up_s = 2
window_s = 0.5
[margins]
errors = {margin = 0.01, reason = "a demonstration of some seconds"}
slow = {margin = 0.01, reason = "a demonstration of some seconds"}
malformed = {margin = 0.01, reason = "a demonstration of some seconds"}
"latency.*" = {margin = 2.0, reason = "a demonstration of some seconds, beside the demo's other servers"}
"outputs.*" = {margin = 0.1, reason = "a demonstration of some seconds"}
[without]
cpu = "a demonstration of some seconds"
throughput = "a demonstration of some seconds"
"""
CHANGED: Final = """


@predict.compute
def changed(weights, batch):
    import itertools
    import time

    answers = weights(batch)["probability"]
{lines}
    return {{"churn_probability": answers}}
"""
SLOWER_S: Final = 0.003


@dataclass(frozen=True)
class Candidate:
    """One that wants to take churn's place."""

    name: str
    words: str
    lines: str = ""
    """What it does with its answers before it gives them."""

    flags: tuple[str, ...] = ()
    expected: str = "fail"


CANDIDATES: Final = (
    Candidate("good", "the same, built again", expected="pass"),
    Candidate(
        "slow", "3 ms more", f"    ends = time.perf_counter() + {SLOWER_S}\n    while time.perf_counter() < ends: pass"
    ),
    Candidate("wrong", "as fast, other answers", "    answers = answers * 0.8 + 0.1"),
    Candidate(
        "erroring",
        "one answer in 25 is an error",
        "    count = next(changed.__dict__.setdefault('calls', itertools.count()))\n"
        "    if count > 50 and count % 25 == 0: raise RuntimeError('out of luck')",
    ),
    Candidate(
        "starved",
        "the same, 5 requests a second",
        flags=("--rate", "5", "--seconds", "5", "--anyway"),
        expected="inconclusive",
    ),
)


@dataclass(frozen=True)
class Row:
    """What the gate said."""

    candidate: Candidate
    verdict: str
    seconds: float
    """Of both, where it was asked twice."""

    reason: str


@dataclass(frozen=True)
class Contender:
    """A bundle that is up."""

    ref: str
    server: ArmServer
    stop: contextlib.ExitStack
    """Closing it ends the server."""


def judge_candidates(teller: Teller) -> list[str]:
    """Compare all five; the lines of the table, and where the page of the last failure is.

    Raises:
        StepFailedError: A command failed, or a bad candidate passed, or the good one failed.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    with scratch() as folder, contextlib.ExitStack() as servers, ThreadPoolExecutor(AT_ONCE) as beside:
        home = {"SLIPWAY_HOME": str(folder / "home")}
        plan = folder / "gate.toml"
        plan.write_text(PLAN, "utf-8")
        try:
            teller.live(step_line(NUMBER, STEP, "building five candidates"))
            stable, *others = beside.map(lambda one: brought_up(one, folder, home, servers), (None, *CANDIDATES))
            rows: list[Row] = []
            after: list[Future[object]] = []
            for candidate, other in zip(CANDIDATES, others, strict=True):
                teller.live(step_line(NUMBER, STEP, f"{candidate.name}: {candidate.words}"))
                rows.append(judged(candidate, stable, other, plan, home))
                # While the next gate starts, long before it counts.
                report = [*SLIPWAY, "gate", "report", str(evidence_of(candidate))]
                after += [beside.submit(other.stop.close), beside.submit(run_step, STEP, report, home)]
            for one in after:
                one.result()
        finally:
            beside.shutdown(cancel_futures=True)
    return [*table(rows), f"the page of each: {os.path.relpath(REPORTS, ROOT)}/"]


def evidence_of(candidate: Candidate) -> Path:
    """Where the gate writes it; the page is beside it."""
    return REPORTS / f"{candidate.name}.json"


def brought_up(
    candidate: Candidate | None, folder: Path, home: dict[str, str], servers: contextlib.ExitStack
) -> Contender:
    """A candidate, or stable when it is None: built and served until `servers` is closed.

    Raises:
        StepFailedError: It could not be built, or did not start.
    """
    logs = folder / "logs" / ("stable" if candidate is None else candidate.name)
    logs.mkdir(parents=True)
    source = SERVICE if candidate is None else changed_copy(candidate, folder)
    ref = run_step(STEP, [*SLIPWAY, "bundle", "build", str(source)], home).strip()
    serve = ("env", *(f"{name}={value}" for name, value in home.items()), *SLIPWAY)
    stop = servers.enter_context(contextlib.ExitStack())
    server = stop.enter_context(arm_server("stable" if candidate is None else "candidate", serve, ref, logs))
    return Contender(ref=ref, server=server, stop=stop)


def changed_copy(candidate: Candidate, folder: Path) -> Path:
    """A copy of churn with the candidate's lines."""
    copy = folder / candidate.name
    shutil.copytree(SERVICE, copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "requirements.lock", copy)
    if candidate.lines:
        with (copy / "src" / "churn_service" / "service.py").open("a", encoding="utf-8") as service:
            service.write(CHANGED.format(lines=candidate.lines))
    golden = [json.loads(line) for line in (copy / "golden.jsonl").read_text("utf-8").splitlines()]
    for example in golden:  # its own authors were content with it
        example["tolerance"] = {"absolute": 1.0}
    (copy / "golden.jsonl").write_text("".join(f"{json.dumps(example)}\n" for example in golden), "utf-8")
    settings = copy / "slipway.toml"
    named = settings.read_text("utf-8").replace('name = "churn"', f'name = "churn"\nversion = "{candidate.name}"', 1)
    settings.write_text(named, "utf-8")
    return copy


def judged(candidate: Candidate, stable: Contender, other: Contender, plan: Path, home: dict[str, str]) -> Row:
    """The gate's verdict, or its second one where the first was inconclusive and need not have been."""
    began = time.monotonic()
    verdict, reasons = compared(candidate, stable, other, plan, home)
    is_again = verdict == "inconclusive" != candidate.expected
    if is_again:
        verdict, reasons = compared(candidate, stable, other, plan, home)
    reason = f"{'(asked twice) ' if is_again else ''}{reasons[0] if reasons else ''}"
    return Row(candidate=candidate, verdict=verdict, seconds=time.monotonic() - began, reason=reason)


def compared(
    candidate: Candidate, stable: Contender, other: Contender, plan: Path, home: dict[str, str]
) -> tuple[str, list[str]]:
    """One comparison, its verdict and reasons; it ends with the demo, whatever ends that."""
    evidence = evidence_of(candidate)
    flags = [*stable.server.flags, *other.server.flags, "--stable-bundle", stable.ref, "--candidate-bundle", other.ref]
    flags += ["--plan", str(plan), *candidate.flags]
    command = [*SLIPWAY, "gate", "run", *flags, "--evidence", str(evidence)]
    evidence.unlink(missing_ok=True)
    running = Running(
        ["env", *(f"{name}={value}" for name, value in home.items()), *command],
        plan.with_suffix(".log"),
        is_guarded=True,
    )
    try:
        running.process.wait(RUN_S)
    except subprocess.TimeoutExpired:
        raise StepFailedError(
            f"{candidate.name} was not judged within {RUN_S:.0f} s", running.tail(), command
        ) from None
    finally:
        running.kill()
    if not evidence.exists():
        raise StepFailedError(f"{candidate.name} could not be compared", running.tail(6), command)
    decision = json.loads(evidence.read_bytes())["decision"]
    verdict, reasons = str(decision["verdict"]), [str(reason) for reason in decision["reasons"]]
    if "pass" in {verdict, candidate.expected} and "inconclusive" != verdict != candidate.expected:
        raise StepFailedError(f"the gate says {verdict} of the {candidate.name} candidate", "\n".join(reasons), command)
    return verdict, reasons


def table(rows: list[Row]) -> list[str]:
    """One line a candidate: what it is, what the gate said, how soon, and why. ASCII only."""
    lines = [f"{'candidate':<10} {'what it is':<30} {'verdict':<13} {'after':>6}  why"]
    for row in rows:
        reason = row.reason.encode("ascii", "replace").decode()
        shown = reason if len(reason) <= 70 else f"{reason[:67]}..."
        what = f"{row.candidate.name:<10} {row.candidate.words:<30}"
        lines.append(f"{what} {row.verdict:<13} {row.seconds:4.1f} s  {shown}")
    return lines
