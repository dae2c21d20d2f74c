"""`slipway split`: the file is checked, the split says where it is, and a signal ends it with a status that is ours."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cli_commands import Slipway

ARMS = (
    '[arms.stable]\nurl = "http://127.0.0.1:9"\nweight = 3\n[arms.candidate]\nurl = "http://127.0.0.1:8"\nweight = 1\n'
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two arms where nobody listens."""
    path = tmp_path / "split.toml"
    path.write_text(ARMS + "[server]\nport = 0\nadmin_port = 0\ndrain_s = 0\n")
    return path


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_split_says_where_it_is_and_ends_when_it_is_told(number: signal.Signals, status: int, file: Path) -> None:
    command = [sys.executable, "-P", "-m", "slipway_cli", "split", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = "".join(process.stderr.readline() for _ in range(3))
            address = re.search(r"at +(\S+)", said)
            assert address is not None, said
            answer = httpx.get(address[1], timeout=30)
            process.send_signal(number)

            assert "splitting stable 0.75 http://127.0.0.1:9, candidate 0.25" in said
            assert answer.json()["code"] == "arm_failed"
            assert process.wait(30) == status
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_check_prints_the_shares_and_serves_nothing(slipway: Slipway, file: Path) -> None:
    said = slipway("split", "--check", str(file))

    assert said.status == 0
    assert said.out == "stable 0.75 http://127.0.0.1:9\ncandidate 0.25 http://127.0.0.1:8\n"


def test_a_key_that_is_unknown_is_wrong_usage_and_the_nearest_is_named(slipway: Slipway, file: Path) -> None:
    file.write_text(ARMS + '[stiky]\nheader = "X-User"\n')

    said = slipway("split", "--check", str(file))

    assert said.status == 2
    assert "unknown key `stiky`" in said.err
    assert "did you mean `sticky`?" in said.err
