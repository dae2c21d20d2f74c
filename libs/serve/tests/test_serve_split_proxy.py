"""What a split does with the requests and answers that pass through it, seen from both sides."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from access_certificates import Authority
from split_arms import application, bare, read, reply
from split_process import Split, config, splitting
from upstream_servers import closed_port

from slipway_serve.access.keys import new_key
from slipway_serve.split.arm_client import ArmClient, ArmFailed

CUT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
CUT_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
LARGE = bytes(range(256)) * 40_000
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it"


class Stable:
    """What each path does; remembers who left."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.left = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await read(receive)
        match scope["path"]:
            case "/echo":
                pairs = [[name.decode(), value.decode()] for name, value in scope["headers"]]
                seen = {"headers": pairs, "body": body.decode(), "query": scope["query_string"].decode()}
                own = ((b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"keep-alive", b"timeout=5"))
                await reply(send, json.dumps(seen).encode(), 200, *own)
            case "/events":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"first", "more_body": True})
                self.goes_on.wait(10)
                await send({"type": "http.response.body", "body": b"second"})
            case "/large":
                await reply(send, LARGE)
            case "/nothing":
                await send({"type": "http.response.start", "status": 304, "headers": [(b"content-length", b"7")]})
                await send({"type": "http.response.body"})
            case "/silent":
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.left.set()
            case _:
                await reply(send, b'{"detail":"no"}', 404)


@pytest.fixture(scope="module")
def stable() -> Stable:
    return Stable()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A key of who may name arms, and its file."""
    path = tmp_path_factory.mktemp("split-keys") / "keys.json"
    return path, new_key(path, "tester", scopes=["split:override"]).key


@pytest.fixture(scope="module")
def split(stable: Stable, key: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    """One split: all users go to stable, the other arms are named by tests."""
    folder = tmp_path_factory.mktemp("split-proxy")
    top = 'timeout_s = 0.6\nconnect_s = 0.5\nrepeatable = ["/repeatable"]'
    tables = f'[override]\nkeys = "{key[0]}"\n[limits]\nbody_bytes = 1000\n'
    with (
        application(stable) as url,
        bare(lambda head: CUT_CHUNKED if b"/chunked" in head else CUT) as cut,
        bare(lambda _: WHOLE) as closing,
        bare(lambda _: UNTIL_CLOSED) as until_closed,
        bare(lambda _: b"SMTP ready\r\n\r\n") as garbage,
        closed_port() as away,
    ):
        arms = {"stable": (url, 1.0), "cut": (cut, 0.0), "closing": (closing, 0.0), "garbage": (garbage, 0.0)}
        arms |= {"away": (away, 0.0), "until-closed": (until_closed, 0.0)}
        with splitting(folder, arms, tables, top) as running:
            yield running


@pytest.fixture
def client(split: Split, key: tuple[Path, str]) -> Iterator[httpx.Client]:
    """Trusted to name an arm."""
    with split.client(headers={"X-API-Key": key[1]}) as client:
        yield client


def test_what_is_sent_on_is_the_request_without_what_is_about_its_connection(client: httpx.Client) -> None:
    sent = {
        "X-Kept": "1",
        "Connection": "keep-alive, x-hop",
        "X-Hop": "1",
        "TE": "trailers",
        "X-Forwarded-For": "9.9.9.9",
    }
    marks = {"X-Slipway-Synthetic": "1", "X-Slipway-Shadow": "1", "Accept-Encoding": "br"}

    answer = client.post("/echo?a=%2F&b=", content=b'{"row":1}', headers={**sent, **marks})
    seen = answer.json()
    headers = dict(seen["headers"])

    assert (seen["body"], seen["query"]) == ('{"row":1}', "a=%2F&b=")
    assert (headers["x-kept"], headers["accept-encoding"]) == ("1", "br")
    assert headers["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"
    assert headers["via"] == "1.1 slipway-split"
    assert headers["host"] != answer.request.url.netloc.decode()
    assert not {"x-hop", "te", "connection", "x-slipway-synthetic", "x-slipway-shadow"} & headers.keys()


def test_what_is_given_back_is_the_answer_with_its_headers(client: httpx.Client) -> None:
    answer = client.get("/echo")

    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert len(answer.headers.get_list("date")) == 1
    assert "keep-alive" not in answer.headers
    assert answer.headers["x-slipway-arm"] == "stable"


def test_answers_without_a_body_pass(client: httpx.Client) -> None:
    head, nothing, again = client.head("/echo"), client.get("/nothing"), client.get("/missing")

    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 10
    assert (nothing.status_code, nothing.content) == (304, b"")
    assert (again.status_code, again.json()) == (404, {"detail": "no"})


def test_a_stream_passes_piece_by_piece(client: httpx.Client, stable: Stable) -> None:
    with client.stream("GET", "/events") as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        stable.goes_on.set()  # the arm says nothing more before this
        rest = b"".join(pieces)

    assert (first, rest) == (b"first", b"second")


def test_a_large_answer_reaches_a_client_that_reads_late(client: httpx.Client) -> None:
    with client.stream("GET", "/large") as answer:
        other = client.get("/echo").status_code  # meanwhile nothing more fits into the way
        content = answer.read()

    assert other == 200
    assert content == LARGE


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(client: httpx.Client, split: Split) -> None:
    for path in ("/chunked", "/with-a-length"):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(path, headers={"X-Slipway-Arm": "cut"})

    assert split.metric("slipway_split_answers_total", arm="cut", result="connection") == 2


def test_what_has_come_and_was_not_given_out_is_not_the_end(stable: Stable) -> None:
    async def ask(url: str) -> tuple[bool, bytes, bool]:
        client = ArmClient(url, connect_s=1.0, connections=1)
        async with asyncio.timeout(10), client.ask("GET", b"/events", [], b"", 10.0) as answer:
            await answer.chunk()
            stable.goes_on.set()
            while not answer._wire.is_done:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
            seen = answer.is_whole, await answer.chunk(), answer.is_whole
        client.close()
        return seen

    stable.goes_on.clear()
    with application(stable) as url:
        assert asyncio.run(ask(url)) == (False, b"second", True)


def test_an_answer_that_ends_with_its_connection_is_whole(client: httpx.Client) -> None:
    answer = client.get("/x", headers={"X-Slipway-Arm": "until-closed"})

    assert answer.content == b"all of it"


def test_a_kept_connection_that_the_arm_closed_costs_no_request_that_may_be_repeated(client: httpx.Client) -> None:
    statuses = [client.post("/repeatable", headers={"X-Slipway-Arm": "closing"}).status_code for _ in range(20)]

    assert statuses == [200] * 20


def test_an_arm_that_is_silent_strange_or_away_is_told_apart(client: httpx.Client, stable: Stable) -> None:
    silent = client.post("/silent")
    strange = client.post("/x", headers={"X-Slipway-Arm": "garbage"})
    away = client.post("/x", headers={"X-Slipway-Arm": "away"})

    assert (silent.status_code, silent.json()["code"]) == (504, "arm_timeout")
    assert (strange.status_code, strange.json()["code"]) == (502, "arm_failed")
    assert (away.status_code, away.json()["code"]) == (502, "arm_failed")
    assert stable.left.wait(10)  # nobody goes on computing for a client that has its answer
    assert "127.0.0.1" not in away.text


def test_a_client_that_leaves_is_told_to_the_arm(client: httpx.Client, stable: Stable, split: Split) -> None:
    stable.left.clear()

    with pytest.raises(httpx.ReadTimeout):
        client.post("/silent", timeout=0.2)

    assert stable.left.wait(10)
    split.until(lambda: split.metric("slipway_split_answers_total", result="client_left") == 1)


def test_a_client_that_does_not_read_is_let_go(split: Split, stable: Stable) -> None:
    host, port = split.url.removeprefix("http://").split(":")
    left = split.metric("slipway_split_answers_total", arm="stable", result="client_left")

    with socket.create_connection((host, int(port))) as stalled:
        stalled.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        split.until(lambda: split.metric("slipway_split_answers_total", arm="stable", result="client_left") > left)

    assert split.metric("slipway_split_answers_total", arm="stable", result="client_left") == left + 1


def test_more_requests_than_an_arm_may_have_are_refused_at_once(stable: Stable) -> None:
    async def ask(url: str) -> ArmFailed:
        client = ArmClient(url, connect_s=1.0, connections=1)
        with pytest.raises(ArmFailed) as refused:
            async with client.ask("GET", b"/echo", [], b"", 5.0), client.ask("GET", b"/echo", [], b"", 5.0):
                pass
        client.close()
        return refused.value

    with application(stable) as url:
        failure = asyncio.run(ask(url))

    assert (failure.reason, failure.is_unsent) == ("busy", True)


@pytest.mark.e2e
def test_both_sides_may_be_tls(stable: Stable, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue("both")
    own = f'tls_cert = "{certificate}"\ntls_key = "{key}"\n'
    trusted = ssl.create_default_context(cafile=str(authority.path))

    with application(stable, ssl_certfile=str(certificate), ssl_keyfile=str(key)) as url:
        address = url.replace("http://", "https://")
        arms = {"stable": (address, 1.0), "candidate": (address, 0.0)}
        with splitting(tmp_path, arms, server=own) as running, running.client(verify=trusted) as client:
            distrusted = client.get("/echo")
            running.configure(config(arms).replace("weight = 1.0", f'weight = 1.0\nca = "{authority.path}"'))
            running.until(lambda: client.get("/echo").status_code == 200)
            headers = dict(client.get("/echo").json()["headers"])

    assert distrusted.status_code == 502
    assert headers["x-forwarded-proto"] == "https"


def test_a_body_beyond_the_limit_is_refused_before_any_arm(client: httpx.Client, split: Split) -> None:
    answer = client.post("/echo", content=b"x" * 1_001)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert split.metric("slipway_split_refused_total", code="body_too_large") == 1


def test_users_of_an_arm_that_is_away_are_answered_by_stable(stable: Stable, tmp_path: Path) -> None:
    with application(stable) as url, closed_port() as away:
        arms = {"stable": (url, 1.0), "candidate": (away, 1_000_000.0)}
        with splitting(tmp_path, arms, '[windows]\nfile = "windows.jsonl"\n') as running, running.client() as client:
            answers = [client.post("/echo") for _ in range(5)]
            fallbacks = running.metric("slipway_split_requests_total", arm="stable", chosen="fallback")
            running.stop()
            (window,) = running.windows()

    assert {(one.status_code, one.headers["x-slipway-arm"]) for one in answers} == {(200, "stable")}
    assert fallbacks == 5
    assert window.arms["candidate"].failed == {"connection": 5}
    assert window.arms["stable"].sent == 0  # what was forced upon it says nothing about it
