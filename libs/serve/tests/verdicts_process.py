"""A verdict service in a process of its own, and the command that speaks to it."""

import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from gate_evidence import SUBJECT

QUERY = {"rollout": SUBJECT.rollout, "pod_hash": SUBJECT.pod_hash, "stage": SUBJECT.stage}


def now(ago: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - ago).isoformat()


@contextmanager
def verdicts(folder: Path, *options: str | Path, key: str = "") -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """A client of a running service, and its process; it must end well when it is told to."""
    command: list[str | Path] = [sys.executable, "-P", "-m", "slipway_cli", "gate", "serve"]
    command += ["--store", folder / "verdicts.db"]
    log = folder / "verdicts.log"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with (
        log.open("a") as said,
        subprocess.Popen(
            [*command, "--port", "0", "--admin-port", "0", *options], stdout=subprocess.PIPE, stderr=said, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http"), log.read_text()
            trusted = ssl.create_default_context(cafile=folder / "tests-ca.pem") if url.startswith("https") else True
            with httpx.Client(base_url=url, headers=headers, timeout=30, verify=trusted, trust_env=False) as client:
                yield client, process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def slipway(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    command = [sys.executable, "-P", "-m", "slipway_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def until(look: Callable[[], object], wanted: object, seconds: float = 20.0) -> bool:
    """Asks again until it is as wanted; False when it never was."""
    ended = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if look() == wanted:
            return True
        ended.wait(0.05)
    return False
