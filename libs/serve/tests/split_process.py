"""A real `slipway split` in a test, on free ports, in front of servers that the test has."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from slipway_signals.gate.records import Window, decode_window

START_S = 30.0
WAIT_S = 20.0
LAUNCH = """
import sys
from pathlib import Path
from slipway_bundle import SlipwayError
from slipway_serve.split.run import run_split
say = lambda line: print(line, flush=True)
try:
    sys.exit(run_split(Path(sys.argv[1]), say))
except SlipwayError as error:
    say(str(error))
    sys.exit(error.exit_status)
"""


class Split:
    """A running split; `stop` drains it."""

    def __init__(self, folder: Path, text: str, server: str = "") -> None:
        self._server = f"[server]\nport = 0\nadmin_port = 0\ndrain_s = 0.2\nstop_s = 5\n{server}"
        self.file = folder / "split.toml"
        self.windows_file = folder / "windows.jsonl"
        self.log = folder / "split.log"
        self.configure(text)
        self._out = self.log.open("wb")
        command = [sys.executable, "-c", LAUNCH, str(self.file)]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.url = self.admin = ""

    def configure(self, text: str) -> None:
        """Write the file, in one step."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{text}\n{self._server}")
        fresh.replace(self.file)

    def __enter__(self) -> "Split":
        self.until(lambda: "metrics  " in self.said(), START_S)
        self.url = (re.search(r"at +(\S+)", self.said()) or [""])[1]
        self.admin = (re.search(r"metrics +(\S+)/metrics", self.said()) or [""])[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        if error is not None:
            sys.stderr.write(self.said())

    def said(self) -> str:
        """Everything it has printed."""
        return self.log.read_text(errors="replace")

    def until(self, is_true: Callable[[], object], seconds: float = WAIT_S) -> None:
        """Wait for something of the process to become true; fails when it does not, or the process is gone."""
        deadline = time.monotonic() + seconds
        while not is_true():
            assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s:\n{self.said()}"
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the split ended with {self.process.returncode}:\n{self.said()}")

    def client(self, **options: Any) -> httpx.Client:
        """A client whose paths are relative to it."""
        return httpx.Client(base_url=self.url, timeout=20, **options)

    def shares(self) -> dict[str, float]:
        """What is in force."""
        shown: dict[str, float] = httpx.get(f"{self.admin}/debug/split", timeout=10).json()["shares"]
        return shown

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels."""
        lines = httpx.get(f"{self.admin}/metrics", timeout=10).text.splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [line for line in lines if re.match(rf"{name}[{{ ]", line) and all(one in line for one in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def windows(self) -> list[Window]:
        """Those of the present file."""
        if not self.windows_file.exists():
            return []
        return [decode_window(line) for line in self.windows_file.read_bytes().splitlines()]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop, and its exit status; idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        self._out.close()
        return status


@contextmanager
def splitting(
    folder: Path, arms: Mapping[str, tuple[str, float]], text: str = "", top: str = "", server: str = ""
) -> Iterator[Split]:
    """A split for the length of a `with` block.

    Args:
        folder: for its files.
        arms: name → address, weight.
        text: more tables.
        top: keys before the first table.
        server: more keys of `[server]`.
    """
    with Split(folder, config(arms, text, top), server) as running:
        yield running


def config(arms: Mapping[str, tuple[str, float]], text: str = "", top: str = "") -> str:
    """The file of `splitting`."""
    tables = [f"[arms.{name}]\nurl = {json.dumps(url)}\nweight = {weight}\n" for name, (url, weight) in arms.items()]
    return "\n".join([top, *tables, text])


def arms_of(client: httpx.Client, users: range, path: str = "/predict", body: object = None) -> dict[str, str]:
    """Who answered each user, who is told apart by `X-User`."""
    found = {}
    for user in users:
        sent = {} if body is None else body
        answer = client.post(path, json=sent, headers={"X-User": f"user-{user}"})
        assert answer.status_code == 200, answer.text
        found[f"user-{user}"] = answer.headers["x-slipway-arm"]
    return found


def counted(arms: Mapping[str, str]) -> Counter[str]:
    """Arm → users."""
    return Counter(arms.values())


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
