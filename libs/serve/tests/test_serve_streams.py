"""Streams over real HTTP: items as they come, errors before and after the first byte, clients that leave or stall."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from web_routes import WAIT_S, eventually
from web_streams import PLACES, Talk, ask, events, idle, stages, talking


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    """The service, with two places for streams."""
    with talking() as running:
        yield running


@pytest.mark.parametrize(("path", "change"), [("/chat", str), ("/loudly", str.upper)])
def test_items_come_as_events_and_end_with_one(talk: Talk, path: str, change: Any) -> None:
    with talk.client() as client:
        answer = client.post(path, **ask("to be or not"))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    items = [("message", {"word": change(word)}) for word in ("to", "be", "or", "not")]
    assert events(answer.text) == [*items, ("end", {})]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson, */*;q=0.1", "application/x-ndjson"),
        ("text/event-stream;q=0.2, application/x-ndjson;q=0.7", "application/x-ndjson"),
        ("text/event-stream, application/x-ndjson", "text/event-stream"),
        ("application/x-ndjson;q=0", "text/event-stream"),
        ("application/x-ndjson;q=high", "text/event-stream"),
        ("*/*", "text/event-stream"),
    ],
)
def test_the_client_chooses_the_form(talk: Talk, accept: str, media_type: str) -> None:
    with talk.client() as client:
        answer = client.post("/chat", **ask("one two"), headers={"accept": accept})

    assert answer.headers["content-type"] == media_type
    if media_type == "application/x-ndjson":
        assert [json.loads(line) for line in answer.text.splitlines()] == [{"word": "one"}, {"word": "two"}]


def test_an_item_is_there_before_the_next_one_is_made(talk: Talk) -> None:
    stage = stages["early bird"]

    with talk.client() as client, client.stream("POST", "/chat", **ask("early bird", "waits")) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        produced = stage.produced
        stage.go_on.set()
        rest = list(lines)

    assert (first, produced) == ('data: {"word":"early"}', 1)
    assert 'data: {"word":"bird"}' in rest


def test_a_stream_without_items_is_an_empty_stream(talk: Talk) -> None:
    with talk.client() as client:
        answer = client.post("/chat", **ask(""))

    assert (answer.status_code, events(answer.text)) == (200, [("end", {})])


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/chat", {"text": "x", "way": "fails at once"}, 500, "model_failed"),
        ("/loudly", {"text": "x", "way": "fails at once"}, 500, "model_failed"),
        ("/loudly", {"text": "x", "way": "refused"}, 403, "quiet_please"),
        ("/chat", {"text": "x" * 101}, 422, "schema_mismatch"),
        ("/chat", {"text": "stuck", "way": "hangs"}, 504, "stream_stalled"),
        ("/wrongly", {"text": "x"}, 422, "schema_mismatch"),
    ],
)
def test_an_error_before_the_first_item_is_an_ordinary_problem(
    talk: Talk, path: str, body: dict[str, str], status: int, code: str
) -> None:
    with talk.client() as client:
        answer = client.post(path, json=body)
    stages[body["text"]].go_on.set()

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert idle(talk)


@pytest.mark.parametrize(
    ("way", "status", "code"),
    [("fails at the end", 500, "model_failed"), ("breaks its schema", 500, "answer_invalid")],
)
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_an_error_after_the_first_item_goes_in_band_and_is_measured(
    talk: Talk, way: str, status: int, code: str, accept: str
) -> None:
    measured = talk.measured()

    with talk.client() as client:
        answer = client.post("/chat", **ask("well then", way), headers={"accept": accept})

    if accept == "text/event-stream":
        *items, (last, problem) = events(answer.text)
        assert last == "error"
    else:
        *items, last_line = [json.loads(line) for line in answer.text.splitlines()]
        problem = last_line["error"]
    assert len(items) == 2
    assert (answer.status_code, problem["status"], problem["code"]) == (200, status, code)
    assert problem["instance"]
    assert "secret" not in answer.text
    assert talk.metrics.wait_for(lambda: len(talk.metrics.requests) > measured)
    assert talk.metrics.requests[measured:] == [("/chat", status)]
    assert talk.metrics.now == 0


def test_more_streams_than_places_are_refused_until_one_ends(talk: Talk) -> None:
    texts = [f"place {index}" for index in range(PLACES)]

    with talk.client() as client:
        open_streams = [client.stream("POST", "/chat", **ask(text, "waits")) for text in texts]
        answers = [stream.__enter__() for stream in open_streams]
        refused = client.post("/chat", **ask("one more"))
        for text in texts:
            stages[text].go_on.set()
        for answer, stream in zip(answers, open_streams, strict=True):
            assert events(answer.read().decode())[-1] == ("end", {})
            stream.__exit__(None, None, None)
        after = client.post("/chat", **ask("one more"))

    assert (refused.status_code, refused.json()["code"]) == (503, "refused_queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert after.status_code == 200


@pytest.mark.parametrize(("path", "stage"), [("/chat", "leaver {}"), ("/loudly", "endpoint leaver {}")])
def test_a_client_that_leaves_closes_the_generator(talk: Talk, path: str, stage: str) -> None:
    text = f"leaver {path}"
    measured = talk.measured()

    with talk.client() as client, client.stream("POST", path, **ask(text, "endlessly")) as answer:
        assert next(answer.iter_raw())

    assert stages[stage.format(path)].closed.wait(WAIT_S)
    assert stages[text].closed.wait(WAIT_S)
    assert talk.metrics.wait_for(lambda: len(talk.metrics.requests) > measured and talk.metrics.now == 0)
    assert talk.metrics.requests[measured:] == [(path, 499)]
    assert idle(talk)


def test_an_endpoint_that_reads_no_further_closes_the_generator(talk: Talk) -> None:
    with talk.client() as client:
        answer = client.post("/whole", **ask("enough", "endlessly"))

    assert len(answer.json()["words"]) == 3
    assert stages["enough"].closed.wait(WAIT_S)
    assert idle(talk)


def test_a_slow_client_pauses_the_generator_and_one_that_stalls_is_let_go(talk: Talk) -> None:
    """Nobody reads: the buffers on the way fill, the generator stops; then the client is given up."""
    stage = stages["slowly"]
    measured = talk.measured()
    body = json.dumps({"text": "slowly", "way": "endlessly"}).encode()
    address = urlsplit(talk.url)

    with socket.create_connection((str(address.hostname), address.port or 0)) as client:
        client.sendall(
            b"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % len(body)
            + body
        )
        assert eventually(lambda: talk.lane.statistics().paused == 1)
        assert stage.closed.wait(WAIT_S)
        assert talk.has_no_connections()  # though the client has not taken what was sent

    assert stage.produced < 2_000  # 40 MB: what the kernel takes for a client, and a little more
    assert talk.metrics.wait_for(lambda: len(talk.metrics.requests) > measured and talk.metrics.now == 0)
    assert talk.metrics.requests[measured:] == [("/chat", 499)]


def test_a_client_that_reads_again_gets_everything(talk: Talk) -> None:
    text = " ".join(str(number) for number in range(20))

    with talk.client() as client, client.stream("POST", "/chat", **ask(text)) as answer:
        assert idle(talk)  # the generator has ended, unread
        items = events(answer.read().decode())

    assert [data["word"] for name, data in items if name == "message"] == text.split()


def test_the_deadline_ends_a_stream_in_band(talk: Talk) -> None:
    with talk.client() as client:
        answer = client.post("/chat", **ask("late", "waits"), headers={"x-slipway-timeout-ms": "800"})
    stages["late"].go_on.set()

    name, problem = events(answer.text)[-1]
    assert (name, problem["code"], problem["status"]) == ("error", "deadline_exceeded", 504)
    assert stages["late"].closed.wait(WAIT_S)
    assert idle(talk)


def test_a_generator_that_never_waits_neither_outlives_its_deadline_nor_holds_up_others(talk: Talk) -> None:
    request = {**ask(""), "headers": {"x-slipway-timeout-ms": "800"}}

    with talk.client() as client, client.stream("POST", "/ticks", **request) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        with talk.client() as other:
            beside = other.post("/chat", **ask("still here"))
        last = list(lines)[-2]

    assert (first, beside.status_code) == ('data: {"word":"tick"}', 200)
    assert json.loads(last.removeprefix("data: "))["code"] == "deadline_exceeded"
