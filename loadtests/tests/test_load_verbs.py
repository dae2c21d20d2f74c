"""`slipway load …` as it is typed: what it prints, and how it ends."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from load_processes import RUN_S, Answered, inputs, server, until

from slipway_signals.gate.records import decode_window

CLI = [sys.executable, "-m", "slipway_cli"]


def slipway(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [*CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)


def test_compare_shows_both_arms_and_keeps_its_windows(tmp_path: Path) -> None:
    source = inputs(tmp_path)["path"]
    with server() as stable, server(lambda *_: Answered(body=b'{"score": 0.7, "label": "yes"}')) as candidate:
        arms = ["--stable", stable.url, "--candidate", candidate.url, "--payloads", source]
        lengths = ["--rate", "80", "--seconds", "2", "--warm-up-s", "1"]
        done = slipway("load", "compare", "--json", *arms, *lengths, "--windows", tmp_path / "kept.jsonl")

    told = json.loads(done.stdout)
    windows = [decode_window(line) for line in (tmp_path / "kept.jsonl").read_bytes().splitlines()]
    assert done.returncode == 0, done.stderr
    assert told["arms"]["stable"]["sent"] == len(stable.seen) - windows[0].arms["stable"].sent
    assert told["arms"]["candidate"]["latency_s"]["p99"] > 0
    assert told["disagreed"] == {"score": told["compared"]}
    assert [window.is_warm_up for window in windows] == [True, False]
    assert "(warm-up)" in done.stderr


@pytest.mark.e2e
def test_find_capacity_says_the_rate_that_held_or_that_none_did(tmp_path: Path) -> None:
    sheds = threading.Event()
    line = ["--p99-ms", "500", "--lowest", "20", "--highest", "40", "--step-s", "1"]
    line += ["--payloads", inputs(tmp_path)["path"]]
    with server(lambda number, _: Answered(status=503 if sheds.is_set() and number % 3 == 0 else 200)) as limited:
        held = slipway("load", "find-capacity", "--url", limited.url, *line, "--draw", tmp_path / "curve.html")
        sheds.set()
        done = slipway("load", "find-capacity", "--url", limited.url, *line, "--json")

    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert told["rate"] is None
    assert [step["rate"] for step in told["steps"]] == [20.0, 20.0]
    assert "expected at most 0.10%" in told["steps"][0]["why"]
    assert held.returncode == 0, held.stderr
    assert held.stdout.splitlines()[-1] == "40 requests a second with p99 within 500 ms"
    assert "<h1>40 requests a second</h1>" in (tmp_path / "curve.html").read_text()


@pytest.mark.e2e
def test_ctrl_c_ends_the_load_and_says_so(tmp_path: Path) -> None:
    with server() as stable:
        command = [*CLI, "load", "run", "--url", stable.url, "--payloads", inputs(tmp_path)["path"], "--seconds", "50"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: len(stable.seen) > 20, "20 requests")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        seen = len(stable.seen)
        until(lambda: len(stable.seen) == seen, "silence", 1)

    assert process.returncode == 130
    assert "s  stable" in said  # the last window


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run"], 2, "`$.arms`"),
        (["run", "--url", "http://127.0.0.1:1"], 3, "http://127.0.0.1:1/openapi.json cannot be fetched"),
        (["run", "--url", "127.0.0.1:8000"], 2, "`$.arms[...].url`"),
        (["compare", "--stable", "http://127.0.0.1:1"], 2, "names stable only, expected two arms"),
        (["find-capacity", "--url", "http://127.0.0.1:1"], 2, "give --slo or --p99-ms"),
        (["run", "--plan", "nowhere.toml"], 3, "'nowhere.toml' cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: list[str], status: int, words: str) -> None:
    done = slipway("load", *arguments)

    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
