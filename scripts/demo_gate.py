"""The demo's last step: five candidates, compared with churn under load, and what the gate says of each.

Each candidate is churn with a few lines more, built into a bundle and served beside the stable one; the gate does not
know which is which. The invariants: every verdict in the table is the gate's own, out of evidence that
`slipway gate replay` computes again; a bad candidate that passes ends the demo with an error.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
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
    reason: str


def judge_candidates(teller: Teller) -> list[str]:
    """Compare all five; the lines of the table, and where the page of the last failure is.

    Raises:
        StepFailedError: A command failed, or a bad candidate passed, or the good one failed.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    with scratch() as folder, contextlib.ExitStack() as opened:
        home = {"SLIPWAY_HOME": str(folder / "home")}
        serve = ("env", f"SLIPWAY_HOME={home['SLIPWAY_HOME']}", *SLIPWAY)
        plan = folder / "gate.toml"
        plan.write_text(PLAN, "utf-8")
        stable = run_step(STEP, [*SLIPWAY, "bundle", "build", str(SERVICE)], home).strip()
        server = opened.enter_context(arm_server("stable", serve, stable, folder))
        rows = []
        for candidate in CANDIDATES:
            teller.live(step_line(NUMBER, STEP, f"{candidate.name}: {candidate.words}"))
            ref = built(candidate, folder, home)
            with arm_server("candidate", serve, ref, folder) as other:
                rows.append(judged(candidate, (server, other), (stable, ref), plan, home))
    return [*table(rows), f"the page of each: {os.path.relpath(REPORTS, ROOT)}/"]


def built(candidate: Candidate, folder: Path, home: dict[str, str]) -> str:
    """A bundle of churn with the candidate's lines; its reference."""
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
    return run_step(STEP, [*SLIPWAY, "bundle", "build", str(copy)], home).strip()


def judged(
    candidate: Candidate, servers: tuple[ArmServer, ArmServer], refs: tuple[str, str], plan: Path, home: dict[str, str]
) -> Row:
    """One comparison, and its page; it ends with the demo, whatever ends that."""
    evidence = REPORTS / f"{candidate.name}.json"
    flags = [flag for server in servers for flag in server.flags]
    flags += ["--stable-bundle", refs[0], "--candidate-bundle", refs[1], "--plan", str(plan), *candidate.flags]
    command = [*SLIPWAY, "gate", "run", *flags, "--evidence", str(evidence)]
    began = time.monotonic()
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
    seconds = time.monotonic() - began
    if not evidence.exists():
        raise StepFailedError(f"{candidate.name} could not be compared", running.tail(6), command)
    decision = json.loads(evidence.read_bytes())["decision"]
    verdict, reasons = str(decision["verdict"]), [str(reason) for reason in decision["reasons"]]
    if "pass" in {verdict, candidate.expected} and "inconclusive" != verdict != candidate.expected:
        raise StepFailedError(f"the gate says {verdict} of the {candidate.name} candidate", "\n".join(reasons), command)
    run_step(STEP, [*SLIPWAY, "gate", "report", str(evidence)], home)
    return Row(candidate=candidate, verdict=verdict, seconds=seconds, reason=reasons[0] if reasons else "")


def table(rows: list[Row]) -> list[str]:
    """One line a candidate: what it is, what the gate said, how soon, and why. ASCII only."""
    lines = [f"{'candidate':<10} {'what it is':<30} {'verdict':<13} {'after':>6}  why"]
    for row in rows:
        reason = row.reason.encode("ascii", "replace").decode()
        shown = reason if len(reason) <= 70 else f"{reason[:67]}..."
        what = f"{row.candidate.name:<10} {row.candidate.words:<30}"
        lines.append(f"{what} {row.verdict:<13} {row.seconds:4.1f} s  {shown}")
    return lines
