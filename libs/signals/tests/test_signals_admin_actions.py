import http.client
import json
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from slipway_signals import actions
from slipway_signals.actions import Answer, problem
from slipway_signals.admin import Admin, start_admin

ALLOWED = {"x-slipway-admin": "1", "content-type": "application/json"}


class Port(NamedTuple):
    """An admin port with one action that echoes, and what the action has got."""

    admin: Admin
    got: list[bytes]


@pytest.fixture
def port() -> Iterator[Port]:
    got: list[bytes] = []

    def swap(body: bytes) -> Answer:
        got.append(body)
        if body == b"fail":
            raise ZeroDivisionError
        if body == b"busy":
            return problem(409, "swap_busy", "another swap is running", "try again")
        return 202, body, "application/json"

    admin = start_admin(
        CollectorRegistry(), 0, pages={"/readyz": lambda: (200, b"", "text/plain")}, actions={"/swap": swap}
    )
    yield Port(admin, got)
    admin.close()


class Said(NamedTuple):
    status: int
    content_type: str
    body: bytes

    @property
    def problem(self) -> Any:
        assert self.content_type == "application/problem+json"
        return json.loads(self.body)


def ask(port: Port, body: bytes = b"{}", method: str = "POST", path: str = "/swap", **headers: str | None) -> Said:
    """A request with what an operator's tool sends; a header that is None is left out."""
    wanted = ALLOWED | {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port.admin.port, timeout=20)
    connection.request(method, path, body, {name: value for name, value in wanted.items() if value is not None})
    answer = connection.getresponse()
    said = Said(answer.status, answer.getheader("Content-Type", ""), answer.read())
    connection.close()
    return said


def say(port: Port, *lines: str, body: bytes = b"") -> int:
    """The status of a request that is written by hand; the client sends no more after it."""
    with socket.create_connection(("127.0.0.1", port.admin.port), timeout=20) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            return int(answer.read().split()[1])


HEAD = ("POST /swap HTTP/1.1", "x-slipway-admin: 1", "content-type: application/json")


def test_an_action_gets_the_body_and_gives_the_answer(port: Port) -> None:
    assert ask(port, b'{"target": "churn:2"}') == (202, "application/json", b'{"target": "churn:2"}')
    assert ask(port, content_type="Application/JSON; charset=utf-8").status == 202
    assert port.got == [b'{"target": "churn:2"}', b"{}"]


def test_an_action_may_say_no(port: Port) -> None:
    said = ask(port, b"busy")

    assert said.status == 409
    assert said.problem == {
        "type": "urn:slipway:problem:swap_busy",
        "title": "Conflict",
        "status": 409,
        "detail": "another swap is running",
        "code": "swap_busy",
        "hint": "try again",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"x_slipway_admin": None},
        {"x_slipway_admin": "yes"},
        {"content_type": None},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/json-patch"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
def test_what_a_web_page_can_send_is_refused(port: Port, headers: dict[str, str | None]) -> None:
    said = ask(port, b"{}", "POST", "/swap", **headers)

    assert said.status == 403
    assert said.problem["code"] in {"not_an_operator", "content_type"}
    assert port.got == []


def test_a_preflight_is_not_allowed(port: Port) -> None:
    asked = {"access_control_request_headers": "x-slipway-admin", "access_control_request_method": "POST"}

    assert ask(port, b"", "OPTIONS", origin="http://evil.example", **asked).status == 405


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_an_action_is_posted_only(port: Port, method: str) -> None:
    assert ask(port, method=method).status == 405
    assert port.got == []


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/", "/nothing"])
def test_a_page_is_not_posted(port: Port, path: str) -> None:
    assert ask(port, path=path).status == 405


def test_actions_are_listed(port: Port) -> None:
    assert ask(port, b"", "GET", "/").body.decode().splitlines() == ["/metrics", "/readyz", "POST /swap"]


@pytest.mark.parametrize(("size", "status"), [(65_536, 202), (65_537, 413), (900_000, 413)])
def test_a_body_has_a_limit_and_whoever_exceeds_it_is_told(port: Port, size: int, status: int) -> None:
    assert ask(port, b"x" * size).status == status
    assert len(port.got) == (status == 202)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 411),
        (("content-length: many",), 411),
        (("content-length: -5",), 411),
        (("transfer-encoding: chunked",), 411),
        (("content-length: 100",), 400),
        (("content-length: 99999999999999999999",), 413),
    ],
)
def test_a_body_of_unknown_or_wrong_length_is_refused(port: Port, lines: tuple[str, ...], status: int) -> None:
    assert say(port, *HEAD, *lines, body=b"2\r\n{}\r\n0\r\n\r\n") == status
    assert port.got == []


def test_a_client_that_never_sends_its_body_holds_up_nobody_and_is_let_go(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_signals.admin._QuietHandler.timeout", 0.2)
    with socket.create_connection(("127.0.0.1", port.admin.port), timeout=20) as client:
        client.sendall("\r\n".join([*HEAD, "content-length: 5", "", "{}"]).encode())

        assert ask(port).status == 202
        assert client.recv(4096).split()[1] == b"408"
    assert port.got == [b"{}"]


def test_a_body_that_comes_byte_by_byte_is_given_up(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "BODY_S", 0.2)
    over = threading.Event()

    def trickle(client: socket.socket) -> None:
        while not over.wait(0.02):
            client.sendall(b" ")

    with socket.create_connection(("127.0.0.1", port.admin.port), timeout=20) as client:
        client.sendall("\r\n".join([*HEAD, "content-length: 60000", "", ""]).encode())
        thread = threading.Thread(target=trickle, args=[client])
        thread.start()

        status = client.recv(4096).split()[1]
        over.set()
        thread.join(20)

    assert status == b"408"
    assert port.got == []


def test_an_action_that_fails_is_500_and_logged_and_the_port_lives_on(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        said = ask(port, b"fail")

    assert said.status == 500
    assert "ZeroDivisionError" not in said.body.decode()
    assert said.problem["code"] == "action_failed"
    assert [one.message for one in caplog.records] == ["admin_action_failed"]
    assert ask(port).status == 202
