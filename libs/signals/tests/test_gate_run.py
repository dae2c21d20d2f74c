"""A live run: the load process is started, listened to, ended; its last words are kept."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from gate_windows import PROMISES, Arms, gate_plan, load_plan

from slipway_bundle.errors import FileError
from slipway_signals.gate.evidence import EvidenceError, encode_evidence
from slipway_signals.gate.records import encode_window
from slipway_signals.gate.replaying import replay_evidence
from slipway_signals.gate.run import LoadProcessError, judge_windows, run_gate
from slipway_signals.gate.verdict import Check, Look

TALKER = """
import os, signal, sys, time
from pathlib import Path

def end(*_):
    Path({folder!r}, "told").write_text("to end")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
Path({folder!r}, "pid").write_text(str(os.getpid()))
arguments = sys.argv[1:]
assert arguments == ["compare", "--plan", "-", "--windows", "-"], arguments
assert '"arms"' in sys.stdin.read()
for line in Path({folder!r}, "windows").read_text().splitlines():
    print(line, flush=True)
{then}
"""
"""A load process that has counted already."""

WAITS = "time.sleep(60)"


def talker(folder: Path, windows: Sequence[bytes], then: str) -> tuple[str, ...]:
    """The command that says these windows, and then does this."""
    (folder / "windows").write_bytes(b"\n".join(windows))
    (folder / "talker.py").write_text(TALKER.format(folder=str(folder), then=then))
    return (sys.executable, str(folder / "talker.py"))


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def lines(arms: Arms, count: int) -> list[bytes]:
    """Windows as the process writes them."""
    return [encode_window(window) for window in arms.windows(count)]


def test_the_load_ends_as_soon_as_the_gate_has_decided(tmp_path: Path) -> None:
    """It would have gone on for a minute."""
    command = talker(tmp_path, lines(Arms(1, failing=0.5), 6), WAITS)
    looks: list[Look] = []

    evidence = run_gate(gate_plan(), PROMISES, (), command=command, announce=looks.append)

    assert evidence.decision.verdict == "fail"
    assert evidence.decision.hard_stop is not None
    assert looks == list(evidence.looks)
    assert (evidence.load.was_stopped, evidence.load.status) == (True, 0)
    assert (tmp_path / "told").exists()
    assert 3 <= len(evidence.windows) <= 6  # those that came while it was being ended are kept, too
    assert replay_evidence(encode_evidence(evidence)).is_same


def test_a_load_process_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing outlives the verdict."""
    monkeypatch.setattr("slipway_signals.gate.run.GRACE_S", 0.3)
    command = talker(tmp_path, lines(Arms(1, failing=0.5), 6), WAITS)
    deaf = (tmp_path / "talker.py").read_text().replace("SIGTERM, end", "SIGTERM, signal.SIG_IGN")
    (tmp_path / "talker.py").write_text(deaf)

    evidence = run_gate(gate_plan(), PROMISES, (), command=command)

    assert evidence.decision.verdict == "fail"
    assert evidence.load.status == -signal.SIGKILL


def test_a_load_process_that_ends_early_passes_nobody(tmp_path: Path) -> None:
    """And its last words say why."""
    then = "sys.stderr.write('no sockets left'); sys.exit(3)"
    command = talker(tmp_path, lines(Arms(1), 20), then)

    evidence = run_gate(gate_plan(stops_on_pass=False), PROMISES, (), command=command)

    assert evidence.decision.verdict == "inconclusive"
    assert evidence.load.said == "no sockets left"
    assert "the load process ended early: no sockets left" in evidence.decision.reasons
    assert replay_evidence(encode_evidence(evidence)).is_same


def test_what_is_no_window_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    """Exit status 3: nothing was decided."""
    command = talker(tmp_path, [b'{"index": "one"}'], WAITS)

    with pytest.raises(LoadProcessError, match="no window") as refused:
        run_gate(gate_plan(), PROMISES, (), command=command)

    assert refused.value.exit_status == 3
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_process_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(LoadProcessError, match="cannot be started"):
        run_gate(gate_plan(), PROMISES, (), command=(str(tmp_path / "nothing"),))


def test_a_process_that_says_nothing_for_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's length, and a little more, is all that is waited."""
    monkeypatch.setattr("slipway_signals.gate.run.START_S", 0.0)
    monkeypatch.setattr("slipway_signals.gate.run.GRACE_S", 0.3)
    plan = gate_plan(load=load_plan(seconds=0.2, warm_up_s=0.1, timeout_s=0.2))
    began = time.monotonic()

    evidence = run_gate(plan, PROMISES, (), command=talker(tmp_path, [], WAITS))

    assert time.monotonic() - began < 10.0
    assert evidence.decision.verdict == "inconclusive"
    assert not evidence.windows


def test_a_candidate_that_failed_before_traffic_gets_none(tmp_path: Path) -> None:
    """No process is started."""
    check = Check(name="compatibility", arm="candidate", status="failed", text="`score` was removed")

    evidence = run_gate(gate_plan(), PROMISES, [check], command=(str(tmp_path / "nothing"),))

    assert evidence.decision.verdict == "fail"
    assert evidence.decision.reasons == ("`score` was removed",)
    assert replay_evidence(encode_evidence(evidence)).is_same


def test_windows_of_a_file_are_judged_alike(tmp_path: Path) -> None:
    """A splitter's, or those of a run of yesterday."""
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\n".join(lines(Arms(1, failing=0.5), 6)) + b"\n")

    evidence = judge_windows(gate_plan(load=None, source="shadow"), PROMISES, path)

    assert evidence.decision.verdict == "fail"
    assert (evidence.load.status, evidence.load.was_stopped) == (None, False)


@pytest.mark.parametrize(("data", "error"), [(b"{}\n", EvidenceError), (None, FileError)])
def test_a_file_that_has_no_windows_is_refused(tmp_path: Path, data: bytes | None, error: type[Exception]) -> None:
    """The message names the line, or the file."""
    path = tmp_path / "windows.jsonl"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(error, match=r"windows\.jsonl"):
        judge_windows(gate_plan(), PROMISES, path)
