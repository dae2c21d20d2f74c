"""A run that is ended before it has decided: SIGTERM, as a Job's deadline sends it."""

import os
import signal
import sys
import time
from pathlib import Path

from gate_windows import PROMISES, Arms, gate_plan

from slipway_signals.gate.ending import Ending, ended_by_sigterm
from slipway_signals.gate.evidence import encode_evidence
from slipway_signals.gate.plan import Override
from slipway_signals.gate.records import encode_window
from slipway_signals.gate.replaying import replay_evidence
from slipway_signals.gate.run import run_gate
from slipway_signals.gate.verdict import Look

TALKER = """
import sys, time
from pathlib import Path

for line in Path({path!r}).read_text().splitlines():
    print(line, flush=True)
time.sleep(60)
"""


WIDE = {"latency.*": 3.0, "errors": 0.2, "slow": 0.2, "malformed": 0.2, "outputs.*": 0.4, "cpu": 3.0, "throughput": 3.0}
"""So that a pass stands after a few windows."""


def talker(folder: Path, arms: Arms, count: int) -> tuple[str, ...]:
    """A load process that has counted so many windows, and goes on."""
    (folder / "windows").write_bytes(b"\n".join(map(encode_window, arms.windows(count))))
    (folder / "talker.py").write_text(TALKER.format(path=str(folder / "windows")))
    return (sys.executable, str(folder / "talker.py"))


def test_a_run_that_sigterm_ends_is_inconclusive_whatever_its_last_look_said(tmp_path: Path) -> None:
    """The last look says pass; the plan wanted more, and did not get it."""
    margins = {name: Override(margin=size, reason="a short run") for name, size in WIDE.items()}
    plan = gate_plan(stops_on_pass=False, margins=margins, quantiles=(0.5,), at_least_s=2.0, block_s=1.0)
    seen: list[Look] = []
    began = time.monotonic()

    def announce(look: Look) -> None:
        seen.append(look)
        if len(seen) == 16:
            os.kill(os.getpid(), signal.SIGTERM)

    with ended_by_sigterm() as ending:
        found = run_gate(plan, PROMISES, (), announce=announce, command=talker(tmp_path, Arms(3), 24), ending=ending)

    assert time.monotonic() - began < 20
    assert seen[-1].verdict == "pass"
    assert found.decision.verdict == "inconclusive"
    assert any("whoever started the run ended it" in reason for reason in found.decision.reasons)
    assert replay_evidence(encode_evidence(found)).is_same


def test_a_run_that_is_ended_before_its_load_sends_none(tmp_path: Path) -> None:
    ending = Ending()
    ending.ask()
    plan = gate_plan()

    found = run_gate(plan, PROMISES, (), command=(str(tmp_path / "never"),), ending=ending)

    assert (found.decision.verdict, found.windows) == ("inconclusive", ())
    assert {one.code for one in found.decision.findings} >= {"load_ended", "no_answers"}


def test_a_verdict_that_stood_stays(tmp_path: Path) -> None:
    """The load is still coming down when the Job's time is over."""
    ending = Ending()
    plan = gate_plan()

    def announce(look: Look) -> None:
        if look.verdict == "fail":
            ending.ask()

    found = run_gate(
        plan, PROMISES, (), announce=announce, command=talker(tmp_path, Arms(3, slower=1.5), 40), ending=ending
    )

    assert ending.is_asked
    assert found.decision.verdict == "fail"
    assert replay_evidence(encode_evidence(found)).is_same


def test_the_handler_of_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with ended_by_sigterm():
        within = signal.getsignal(signal.SIGTERM)

    assert within is not before
    assert signal.getsignal(signal.SIGTERM) is before
