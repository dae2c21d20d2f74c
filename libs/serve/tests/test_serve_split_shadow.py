"""What a shadow may not do (cost a user anything), what it is asked, and how its answers are compared."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from split_arms import application, read, reply
from split_process import splitting

from slipway_signals.gate.records import Window

SHADOWED = 'repeatable = ["/predict"]'
WINDOWS = '[windows]\nfile = "windows.jsonl"\nseconds = 600\n'


class Model:
    """An arm; `answer` gets the number of the request, from 0, and gives status and body; None: it never answers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.leaves = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await read(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        number = len(self.seen)
        self.seen.append((f"{scope['method']} {scope['path']}", headers, body))
        said = self.answer(number)
        if said is None:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await reply(send, said[1], said[0])


def good(_: int) -> tuple[int, bytes]:
    return 200, b'{"probability":0.5,"band":"low"}'


@pytest.fixture
def stable() -> Iterator[str]:
    """The address of an arm that is always good."""
    with application(Model(good)) as url:
        yield url


def total(windows: list[Window]) -> Window:
    (window,) = windows
    return window


def test_a_shadow_that_hangs_delays_nobody_and_what_finds_no_room_is_dropped(stable: str, tmp_path: Path) -> None:
    tables = f"[shadow]\nqueue = 4\nin_flight = 2\ntimeout_s = 0.3\n{WINDOWS}"

    with application(Model(lambda _: None)) as url:
        arms = {"stable": (stable, 1.0), "candidate": (url, 0.0)}
        with splitting(tmp_path, arms, tables, SHADOWED) as split, split.client() as client:
            client.post("/predict")
            begun = time.monotonic()
            answers = [client.post("/predict", json={"n": n}) for n in range(40)]
            took_s = time.monotonic() - begun
            dropped_by_then = split.metric("slipway_split_copies_total", result="dropped")
            split.stop()
            window = total(split.windows())

    assert {answer.content for answer in answers} == {b'{"probability":0.5,"band":"low"}'}
    assert {answer.headers["x-slipway-arm"] for answer in answers} == {"stable"}
    assert took_s < 40 * 0.3 / 2  # what waiting for two at a time would take
    assert dropped_by_then > 0
    assert window.generator.offered == 41
    assert window.generator.dropped + window.arms["candidate"].sent == 41
    assert window.arms["candidate"].failed == {"timeout": window.arms["candidate"].sent}
    assert window.arms["stable"].sent == window.arms["candidate"].sent


def test_only_what_may_be_repeated_is_copied_and_copies_are_marked(stable: str, tmp_path: Path) -> None:
    shadow = Model(good)

    with application(shadow) as url:
        arms = {"stable": (stable, 1.0), "candidate": (url, 0.0)}
        with splitting(tmp_path, arms, "[shadow]\n", SHADOWED) as split, split.client() as client:
            client.post("/order", content=b"an effect")
            client.get("/predict")
            client.post("/predict", content=b"also an effect", headers={"Idempotency-Key": "o-1"})
            client.post("/predict?v=2", content=b"a question", headers={"X-User": "u"})
            split.until(lambda: split.metric("slipway_split_copies_total", result="agreed") == 1)

    ((asked, headers, body),) = shadow.seen
    assert (asked, body, headers["x-user"]) == ("POST /predict", b"a question", "u")
    assert (headers["x-slipway-shadow"], headers["x-slipway-synthetic"]) == ("1", "1")


def test_differences_are_counted_by_field_and_failures_by_reason(stable: str, tmp_path: Path) -> None:
    said = [
        (200, b'{"probability":0.5001,"band":"low"}'),  # within the tolerance
        (200, b'{"probability":0.6,"band":"low"}'),
        (200, b'{"probability":0.5,"band":"high"}'),
        (200, b'{"probability":null,"band":"low"}'),
        (200, b'{"probability":NaN,"band":"low"}'),
        (200, b'{"band":"low"}'),
        (422, b'{"detail":"no"}'),
        (500, b'{"detail":"no"}'),
        (429, b'{"detail":"no"}'),
    ]
    tables = f"[shadow]\nin_flight = 1\n{WINDOWS}[windows.tolerances]\nprobability = 0.001\n"

    with application(Model(lambda number: said[number])) as url:
        arms = {"stable": (stable, 1.0), "candidate": (url, 0.0)}
        with splitting(tmp_path, arms, tables, SHADOWED) as split, split.client() as client:
            for _ in said:
                assert client.post("/predict").status_code == 200
            split.until(lambda: split.metric("slipway_split_copies_total") == len(said))
            agreed = split.metric("slipway_split_copies_total", result="agreed")
            split.stop()
            window = total(split.windows())

    candidate = window.arms["candidate"]
    assert agreed == 1
    assert candidate.failed == {"http_500": 1, "http_429": 1}
    assert (candidate.sent, candidate.succeeded, candidate.malformed) == (9, 7, 3)
    assert candidate.labels["status"] == {"200": 6, "422": 1}
    assert window.arms["stable"].labels["band"] == {"low": 9}
    assert window.pairs.compared == 7
    assert window.pairs.disagreed["status"] == 1
    assert window.pairs.disagreed["malformed"] == 3
    assert window.pairs.disagreed["probability"] == 5  # another number, malformed three times, a refusal


@pytest.mark.e2e
def test_windows_that_cannot_be_written_cost_windows_and_no_answer(stable: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    tables = '[windows]\nfile = "file/windows.jsonl"\nseconds = 0.1\n'

    with application(Model(good)) as url:
        arms = {"stable": (stable, 1.0), "candidate": (url, 1.0)}
        with splitting(tmp_path, arms, tables) as split, split.client() as client:
            split.until(lambda: split.metric("slipway_split_windows_lost_total") >= 2)
            status = client.post("/predict").status_code

            assert status == 200
            assert split.stop() == 0


@pytest.mark.e2e
def test_an_arm_that_fails_under_thompson_sampling_loses_its_users_within_seconds(stable: str, tmp_path: Path) -> None:
    tables = "[thompson]\ngood_ms = 1000\nevery_s = 600\n"

    with application(Model(lambda _: (500, b"{}"))) as url:
        arms = {"stable": (stable, 1.0), "candidate": (url, 1.0)}
        with splitting(tmp_path, arms, tables) as split, split.client() as client:
            split.until(lambda: client.post("/predict").status_code and split.shares()["candidate"] == 0)
            statuses = [client.post("/predict").status_code for _ in range(20)]

            assert statuses == [200] * 20
            assert split.metric("slipway_split_frozen") == 1
            assert "the split is frozen: arm 'candidate' fails more than 0.05" in split.said()
            assert split.metric("slipway_split_answers_total", arm="candidate", result="5xx") < 200
