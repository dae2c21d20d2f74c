"""What the tests of the command share: what a command line said, and the shape of the fixture that runs one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[3]
CHURN = ROOT / "services" / "churn"


class Said(NamedTuple):
    """What one command line gave."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)


Slipway = Callable[..., Said]
Answer = TypeVar("Answer")


def settled(ask: Callable[[], Answer], is_inconclusive: Callable[[Answer], bool]) -> Answer:
    """What `ask` gives, asked again, twice at most, while the gate has too little evidence.

    A machine that others use may give too little for a minute. A rollout then waits for a person, who begins it again;
    this stands for the person. `fail` is never asked again, and one that cannot conclude is inconclusive three times.
    """
    for _ in range(2):
        answer = ask()
        if not is_inconclusive(answer):
            return answer
    return ask()


@contextmanager
def served(*arguments: str | Path, home: Path, folder: Path | None = None) -> Iterator[str]:
    """The address of a live `slipway serve`; it is stopped, and must have drained cleanly, at the end."""
    command = [sys.executable, "-P", "-m", "slipway_cli", "serve", *map(str, arguments)]
    command += ["--port", "0", "--admin-port", "0", "--drain-s", "0"]
    environment = os.environ | {"SLIPWAY_HOME": str(home)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.match(r" +at +(http://\S+)", line):
                break
        else:
            raise AssertionError(f"slipway serve ended: {''.join(said)}")
        try:
            yield found[1]
        finally:
            process.terminate()
            rest = process.stderr.read()
    assert process.returncode == 0, rest


def post(url: str, document: object) -> tuple[int, Any]:
    """Status and JSON of a POST."""
    answer = httpx.post(url, json=document, timeout=30)
    return answer.status_code, answer.json()
