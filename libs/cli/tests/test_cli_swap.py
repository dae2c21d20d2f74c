"""`slipway swap` against a real admin port, whose server side is played by the test."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_commands import Said, Slipway
from prometheus_client import CollectorRegistry

from slipway_signals.actions import Answer, problem
from slipway_signals.admin import Admin, start_admin

OLD, NEW = "churn@sha256:" + "a" * 64, "churn@sha256:" + "b" * 64
JSON = "application/json"


class Server:
    """What an admin port tells of one swap: its answer to the POST, then one rollout a look, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.reply: Answer = (202, json.dumps({"generation": 3, "from": OLD, "to": NEW}).encode(), JSON)
        self.looks: list[object] = []
        self.seen = 0
        self.ends_at: int | None = None
        self.admin: Admin = start_admin(
            CollectorRegistry(), 0, pages={"/debug/rollout": self._look}, actions={"/swap": self._swap}
        )

    def _swap(self, body: bytes) -> Answer:
        self.asked.append(json.loads(body))
        return self.reply

    def _look(self) -> Answer:
        shown = self.looks[min(self.seen, len(self.looks) - 1)]
        self.seen += 1
        if self.seen == self.ends_at:
            self.admin.close()
        return 200, json.dumps(shown).encode(), JSON


NONE_YET = {"kind": None, "phase": "over", "generation": 0, "outcome": None, "message": "", "from": None, "to": None}


def rollout(phase: str, outcome: str | None = None, generation: int = 3, message: str = "") -> dict[str, object]:
    shown: dict[str, object] = {"kind": "swap", "phase": phase, "generation": generation, "outcome": outcome}
    return shown | {"message": message, "from": OLD, "to": NEW}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    if server.ends_at is None:
        server.admin.close()


def swap(slipway: Slipway, server: Server, *arguments: str | Path) -> Said:
    target = arguments or ("churn:1.1.0",)
    return slipway("swap", *target, "--admin", server.admin.url)


def test_a_swap_is_followed_to_its_end(slipway: Slipway, server: Server) -> None:
    server.looks = [
        NONE_YET,
        rollout("over", "done", generation=2),  # of the swap before
        *[rollout("preparing"), rollout("preparing"), rollout("replacing"), rollout("retiring")],
        rollout("over", "done"),
    ]

    said = swap(slipway, server)

    assert said.status == 0
    assert said.out == f"{OLD} → {NEW}\n"
    assert [line.split()[0] for line in said.err.splitlines()] == ["swapping", "preparing", "replacing", "retiring"]
    assert server.asked == [{"target": "churn:1.1.0", "service": None}]


def test_the_result_is_one_json_object(slipway: Slipway, server: Server) -> None:
    server.looks = [rollout("over", "done")]

    said = swap(slipway, server, "churn", "--service", "churn", "--json")

    assert said.document == {"from": OLD, "to": NEW, "generation": 3, "outcome": "done"}
    assert server.asked == [{"target": "churn", "service": "churn"}]


def test_a_folder_is_named_as_the_server_finds_it(
    slipway: Slipway, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "churn").mkdir()
    monkeypatch.chdir(tmp_path)
    server.looks = [rollout("over", "done")]

    swap(slipway, server, "churn")

    assert server.asked == [{"target": str(tmp_path.resolve() / "churn"), "service": None}]


def test_a_swap_that_failed_is_a_no_with_the_reason_and_who_serves(slipway: Slipway, server: Server) -> None:
    why = "run-0: golden example 3 does not replay"
    server.looks = [rollout("preparing"), rollout("undoing", message=why), rollout("over", "failed", message=why)]

    words, document = swap(slipway, server), swap(slipway, server, "churn", "--json")

    assert (words.status, words.out) == (1, "")
    assert "undoing    going back: run-0: golden example 3" in words.err
    assert f"error: the swap failed: {why}" in words.err
    assert f"hint: {OLD} serves on" in words.err
    assert document.status == 1
    assert document.document["error"]["code"] == "swap_failed"
    assert document.document["error"]["fields"] == {"serving": OLD, "target": NEW}


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [(409, "swap_busy", 1), (404, "ref_not_found", 2), (422, "service_unknown", 2), (503, "no_room", 3)],
)
def test_a_refusal_keeps_its_code(slipway: Slipway, server: Server, status: int, code: str, exit_status: int) -> None:
    server.reply = problem(status, code, "no", "try again")

    said = swap(slipway, server, "churn", "--json")

    assert said.status == exit_status
    assert said.document["error"] == {"code": code, "message": "no", "hint": "try again", "exit_status": exit_status}
    assert server.seen == 0


def test_a_server_that_is_not_there_is_the_networks_fault(slipway: Slipway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    said = slipway("swap", "churn", "--admin", f"http://127.0.0.1:{port}", "--json")

    assert said.status == 3
    assert said.document["error"]["code"] == "unreachable"
    assert f"http://127.0.0.1:{port}/swap" in said.document["error"]["message"]


def test_a_port_that_cannot_swap_is_told_apart(slipway: Slipway) -> None:
    admin = start_admin(CollectorRegistry(), 0)

    said = slipway("swap", "churn", "--admin", admin.url, "--json")
    admin.close()

    assert said.status == 3
    assert "no admin port that can swap" in said.document["error"]["message"]
    assert "405" in said.document["error"]["message"]


def test_a_server_that_ends_meanwhile_is_the_networks_fault(slipway: Slipway, server: Server) -> None:
    server.looks = [rollout("preparing")]
    server.ends_at = 2

    said = swap(slipway, server, "churn", "--json")

    assert said.status == 3
    assert said.document["error"]["code"] == "unreachable"
    assert server.seen == 2


def test_what_is_no_rollout_is_not_believed(slipway: Slipway, server: Server) -> None:
    server.looks = [["over", "done"]]

    said = swap(slipway, server, "churn", "--json")

    assert said.status == 3
    assert "no admin port of slipway" in said.document["error"]["message"]


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (rollout("over", "stopped"), "the server was told to stop"),
        (rollout("preparing", generation=4), "generation 4 is being rolled out already"),
        (rollout("preparing"), "not over after 0 s: it is preparing"),
        (NONE_YET, "not over after 0 s: it is waiting"),
    ],
)
def test_an_end_that_was_not_seen_is_not_called_a_failure(
    slipway: Slipway, server: Server, look: object, words: str
) -> None:
    server.looks = [look]

    said = swap(slipway, server, "churn", "--timeout", "0", "--json")

    assert said.status == 3
    assert said.document["error"]["code"] == "swap_unfinished"
    assert words in said.document["error"]["message"]


@pytest.mark.parametrize("admin", ["127.0.0.1:8002", "http://127.0.0.1:8002/metrics", "file:///tmp", ""])
def test_an_address_that_is_none_is_wrong_usage(slipway: Slipway, admin: str) -> None:
    said = slipway("swap", "churn", "--admin", admin)

    assert said.status == 2
    assert "http://HOST:PORT" in said.err


def test_a_proxy_of_the_environment_is_not_asked(server: Server, home: Path) -> None:
    server.looks = [rollout("over", "done")]
    command = [sys.executable, "-P", "-m", "slipway_cli", "swap", "churn", "--admin", server.admin.url, "--quiet"]
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "SLIPWAY_HOME": str(home)}

    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{OLD} → {NEW}\n"
