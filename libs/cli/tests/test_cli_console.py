import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cli_commands import ROOT, Slipway

NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_console_prints_its_address_and_ends_when_it_is_told(number: signal.Signals, status: int) -> None:
    command = [sys.executable, "-P", "-m", "slipway_cli", "console", "--port", "0", "--prometheus", NOBODY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            page = httpx.get(process.stdout.readline().strip(), timeout=30).text
            process.send_signal(number)
            process.send_signal(number)  # as `timeout` and impatient people do

            assert "Nobody can tell: Prometheus gives no answer" in page
            assert process.wait(30) == status
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_folder_without_dashboards_is_refused_with_the_way_out(slipway: Slipway, tmp_path: Path) -> None:
    (tmp_path / "runbooks").mkdir()

    said = slipway("console", "--port", "0", "--observability", str(tmp_path), "--runbooks", str(tmp_path / "runbooks"))

    assert said.status in {2, 3}
    assert "dashboards" in said.err
    assert "hint:" in said.err


def test_a_port_that_is_taken_is_named(slipway: Slipway) -> None:
    folders = ("--observability", str(ROOT / "observability"), "--runbooks", str(ROOT / "runbooks"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = slipway("console", "--port", str(port), *folders)

    assert said.status == 3
    assert str(port) in said.err
