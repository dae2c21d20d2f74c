"""Day one of a new user: the tutorial, done as it is written, with a scikit-learn model of their own."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import ROOT, post, served

TUTORIAL = (ROOT / "docs" / "tutorial-first-service.md").read_text("utf-8")
FILE = re.compile(r"^`(pump/[^`]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def slipway(*arguments: str, home: Path, folder: Path) -> str:
    """What a command prints on stdout, typed in `folder`."""
    command = [sys.executable, "-P", "-m", "slipway_cli", *arguments]
    environment = os.environ | {"SLIPWAY_HOME": str(home)}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, timeout=110, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


def own_answer(file: Path, row: list[float]) -> float:
    """What the user's own model says, without slipway."""
    skops = importlib.import_module("skops.io")
    model = skops.load(file, trusted=skops.get_untrusted_types(file=file))
    return float(model.predict_proba([row])[0, 1])


def test_the_tutorial_has_under_100_lines_to_write_and_three_commands() -> None:
    written = dict(FILE.findall(TUTORIAL))
    commands = [line for block in COMMANDS.findall(TUTORIAL) for line in block.splitlines()]

    assert len(written) == 4
    assert sum(text.count("\n") for text in written.values()) < 100
    assert [line for line in commands if line.startswith("slipway")] == [
        "slipway new pump",
        "slipway bundle build pump",
        "slipway serve pump",
    ]


@pytest.mark.slow
def test_the_tutorial_done_as_written_ends_in_an_endpoint_that_answers_as_the_model_does(tmp_path: Path) -> None:
    home, pump = tmp_path / "home", tmp_path / "pump"

    slipway("new", "pump", home=home, folder=tmp_path)
    for name, text in FILE.findall(TUTORIAL):
        (tmp_path / name).write_text(text)
    subprocess.run([sys.executable, "train.py"], cwd=pump, check=True, timeout=110)
    ref = slipway("bundle", "build", "pump", home=home, folder=tmp_path)
    with served("pump", home=home, folder=tmp_path) as url:
        status, answer = post(f"{url}/predict", {"temperature": 58.0, "vibration": 6.5, "pressure": 1.0})
        refused, problem = post(f"{url}/predict", {"temperature": 58.0, "vibration": -1, "pressure": 1.0})

    assert re.fullmatch(r"pump:\S+", ref)
    assert status == 200
    assert answer["failure"] == pytest.approx(own_answer(pump / "model" / "pump.skops", [58.0, 6.5, 1.0]), abs=1e-12)
    assert refused == 422
    assert "vibration" in str(problem)
