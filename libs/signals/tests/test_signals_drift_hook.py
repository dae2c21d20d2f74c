"""Sustained drift becomes one CloudEvent for one episode, delivered to a real receiver in spite of its bad moments."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from event_sink import BEGAN, EventSink, alert, event_sink, webhook

from slipway_signals.drift import hook as hook_module
from slipway_signals.drift.delivery import AddressError, DeliveryError, post
from slipway_signals.drift.episodes import CloudEvent, Episodes, PayloadError, decode_alerts
from slipway_signals.drift.hook import HookPortError, HookServer, RetrainingHook

START = datetime.fromisoformat(BEGAN)
LATER = "2026-11-20T12:00:00Z"
JSON = {"content-type": "application/json"}


class Told:
    """Episodes and an hour hand; `hear` gives what is due, and says that it arrived."""

    def __init__(self, sustained: timedelta = timedelta()) -> None:
        self.episodes = Episodes(sustained)

    def hear(self, *alerts: dict[str, Any], hours: float = 1.0, arrives: bool = True) -> list[CloudEvent]:
        events = self.episodes.take(decode_alerts(webhook(*alerts)), START + timedelta(hours=hours))
        for event in events:
            if arrives:
                self.episodes.told(event)
        return list(events)


def event() -> CloudEvent:
    (found,) = Told().hear(alert())
    return found


@contextmanager
def hooked(sink: EventSink, **options: Any) -> Iterator[HookServer]:
    hook = RetrainingHook(sink.url, pauses_s=options.pop("pauses_s", ()), **options)
    server = HookServer(hook, "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()


def send(server: HookServer, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(server.url, content=body, headers=JSON | headers, timeout=30.0)


def test_drift_of_a_model_is_an_event_and_nothing_else_is() -> None:
    events = Told().hear(
        alert(),
        alert(labels={"category": "latency"}),
        alert(labels={"model": ""}),
        alert("SlipwayAccuracyLow", labels={"model": "other"}),
    )

    assert [(one.subject, one.data.causes[0].alert) for one in events] == [
        ("churn/churn", "SlipwayPredictionDrift"),
        ("churn/other", "SlipwayAccuracyLow"),
    ]


def test_an_event_has_what_drifted_since_when_by_how_much_and_what_was_served() -> None:
    feature = alert(
        "SlipwayFeatureDrift",
        starts_at=LATER,
        labels={"feature": "tenure"},
        annotations={"value": "0.7", "moved": "", "releases": "sha256:aa=1.2 sha256:bb=1.3"},
    )
    broken = alert(
        "SlipwayFeatureDefects", labels={"feature": "age"}, annotations={"statistic": "defects", "value": "0.04"}
    )

    (one,) = Told().hear(feature, alert(), broken)

    data = one.data
    assert (one.time, data.since) == (START, START)
    assert (data.service, data.model, data.track, data.owner) == ("churn", "churn", "", "team-churn")
    assert [(moved.feature, moved.psi) for moved in data.features] == [
        ("tenure", 0.7), ("income", 0.306), ("contract", 0.001),
    ]  # fmt: skip
    assert [(release.digest, release.version) for release in data.releases] == [
        ("sha256:aa", "1.2"), ("sha256:bb", "1.3"),
    ]  # fmt: skip
    assert [(cause.alert, cause.statistic, cause.value) for cause in data.causes] == [
        ("SlipwayPredictionDrift", "psi", 0.306), ("SlipwayFeatureDrift", "psi", 0.7),
    ]  # fmt: skip
    assert [(cause.feature, cause.value) for cause in data.defects] == [("age", 0.04)]


def test_broken_input_alone_starts_no_training() -> None:
    assert Told().hear(alert("SlipwayFeatureDefects", annotations={"statistic": "defects"})) == []


def test_drift_is_told_when_it_has_lasted_and_once() -> None:
    told = Told(timedelta(hours=2))

    counts = [len(told.hear(alert(), hours=hours)) for hours in (0.1, 1.9, 2.0, 3.0, 50.0)]

    assert counts == [0, 0, 1, 0, 0]


def test_what_did_not_arrive_is_due_again_with_the_same_id() -> None:
    told = Told()

    first, again, after = (told.hear(alert(), arrives=arrives) for arrives in (False, True, True))

    assert first[0].id == again[0].id
    assert after == []


def test_a_hook_that_was_started_again_gives_the_same_id() -> None:
    assert Told().hear(alert())[0].id == Told().hear(alert(), hours=9.0)[0].id


def test_an_episode_goes_on_while_one_of_its_alerts_does() -> None:
    """The first alert ends, another took over meanwhile: that is one drift and not two."""
    told = Told()
    second = alert("SlipwayFeatureDrift", starts_at=LATER, labels={"feature": "income"})

    heard = [
        told.hear(alert()),
        told.hear(alert(), second),
        told.hear(alert(status="resolved"), second),
        told.hear(second),
    ]

    assert [len(events) for events in heard] == [1, 0, 0, 0]


def test_a_resolved_alert_ends_the_episode_and_the_next_is_another() -> None:
    told = Told()

    first = told.hear(alert())
    ended = told.hear(alert(status="resolved"))
    second = told.hear(alert(starts_at=LATER), hours=3.0)

    assert ended == []
    assert first[0].id != second[0].id


def test_an_episode_whose_end_was_not_heard_does_not_hide_the_next() -> None:
    told = Told()
    told.hear(alert())

    assert len(told.hear(alert(starts_at=LATER), hours=3.0)) == 1


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "no webhook of Alertmanager"),
        (b"\xff\xfe", "no webhook of Alertmanager"),
        (b"[" * 100_000, "no webhook of Alertmanager"),
        (b'{"version": "3", "alerts": []}', r"\$\.version.* is '3', expected '4'"),
        (b'{"version": "4"}', "alerts"),
        (webhook(alert(status="burning")), r"burning.*\$\.alerts\[0\]\.status"),
        (webhook(alert(starts_at="today")), r"\$\.alerts\[0\]\.startsAt"),
        (webhook(alert(starts_at="2026-11-20T10:00:00")), r"timezone.*\$\.alerts\[0\]\.startsAt"),
        (webhook(alert(labels={"model": 3})), r"got `int` - at `\$\.alerts\[0\]\.labels"),
        (b" " * (2**20 + 1), "too long: got 1048577 bytes"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_no_webhook_is_refused_and_the_field_is_named(payload: bytes, said: str) -> None:
    with pytest.raises(PayloadError, match=said):
        decode_alerts(payload)


def test_annotations_of_somebody_else_are_no_numbers_and_no_harm() -> None:
    strange = {"value": "nan", "moved": "x = =y z=oops w=inf", "releases": "  ", "statistic": "???"}

    (one,) = Told().hear(alert(annotations=strange))

    assert (one.data.features, one.data.releases, one.data.causes[0].value) == ((), (), None)


def test_an_event_arrives_in_structured_json_after_the_receivers_bad_moments() -> None:
    waited: list[float] = []
    with event_sink(503, 429, 202) as sink:
        status = post(event(), sink.url, token="x", wait=waited.append)

    headers, body = sink.taken[-1]
    assert status == 202
    assert waited == [0.5, 2.0]
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["Authorization"] == "Bearer x"
    assert {key: body[key] for key in ("specversion", "type", "source", "time", "datacontenttype")} == {
        "specversion": "1.0",
        "type": "io.slipway.drift.sustained.v1",
        "source": "slipway/churn",
        "time": BEGAN,
        "datacontenttype": "application/json",
    }
    assert len({body["id"] for _, body in sink.taken}) == 1
    assert body["data"]["model"] == "churn"


@pytest.mark.parametrize("status", [403, 302, 307])
def test_a_refusal_is_not_repeated_nor_followed_and_no_secret_is_told(status: int) -> None:
    with event_sink(status) as sink, pytest.raises(DeliveryError, match=str(status)) as caught:
        post(event(), sink.url, token="a token")

    assert len(sink.taken) == 1
    assert "secret" not in str(caught.value)
    assert "a token" not in str(caught.value)


def test_a_receiver_that_stays_away_is_an_error() -> None:
    waited: list[float] = []
    with event_sink() as gone:
        url = gone.url

    with pytest.raises(DeliveryError, match="was not taken by http://127"):
        post(event(), url, wait=waited.append)

    assert waited == [0.5, 2.0, 8.0]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "https://me:pass@host/", "http://[", "http://a b/"])
def test_an_event_goes_to_the_web_only(url: str) -> None:
    with pytest.raises(AddressError, match="http or https") as caught:
        RetrainingHook(url)

    assert "pass@" not in str(caught.value)


def test_a_token_that_no_header_can_carry_is_not_shown() -> None:
    with pytest.raises(AddressError, match="got 9 characters"):
        post(event(), "http://127.0.0.1:9/", token="abc\r\nX: 1")


def test_the_hook_sends_what_it_hears_and_answers_when_it_arrived() -> None:
    with event_sink() as sink, hooked(sink, token=lambda: "t") as server:
        answers = [send(server, webhook(alert())) for _ in range(3)]
        health = httpx.get(server.url.replace("/alerts", "/healthz")).json()

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [headers["Authorization"] for headers, _ in sink.taken] == ["Bearer t"]
    assert health == {"status": "ok", "webhooks": 3, "sent": 1, "unsent": 0}


def test_what_does_not_arrive_is_asked_for_again() -> None:
    with event_sink(500, 403) as sink, hooked(sink) as server:
        statuses = [send(server, webhook(alert())).status_code for _ in range(4)]

    assert statuses == [502, 502, 200, 200]
    assert len({body["id"] for _, body in sink.taken}) == 1
    assert len(sink.taken) == 3


def test_one_receiver_that_is_refused_does_not_keep_the_other_models_event() -> None:
    with event_sink(422) as sink, hooked(sink) as server:
        answer = send(server, webhook(alert(), alert(labels={"model": "other"})))

    assert answer.status_code == 502
    assert [body["subject"] for _, body in sink.taken] == ["churn/churn", "churn/other"]


def test_two_alertmanagers_at_once_start_one_training() -> None:
    with event_sink() as sink, hooked(sink) as server:
        sink.holds.clear()
        statuses: list[int] = []
        both = [
            threading.Thread(target=lambda: statuses.append(send(server, webhook(alert())).status_code))
            for _ in range(2)
        ]
        for one in both:
            one.start()
        sink.wait_taken(1)
        sink.holds.set()
        for one in both:
            one.join()

    assert statuses == [200, 200]
    assert len(sink.taken) == 1


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/elsewhere", {}, 404),
        ("/alerts", {"origin": "http://evil.example"}, 403),
        ("/alerts", {"content-type": "text/plain"}, 403),
        ("/alerts", {"content-length": "-1"}, 411),
        ("/alerts", {"content-length": "١٢"}, 411),
        ("/alerts", {"content-length": str(2**20 + 1)}, 413),
        ("/alerts", {"content-length": "9" * 30}, 411),
    ],
)
def test_what_alertmanager_would_not_send_is_refused(path: str, headers: dict[str, str], status: int) -> None:
    with event_sink() as sink, hooked(sink) as server:
        connection = http.client.HTTPConnection(*_address(server), timeout=30)
        connection.putrequest("POST", path)
        for name, value in (JSON | {"content-length": "2"} | headers).items():
            connection.putheader(name, value.encode())
        connection.endheaders(b"{}")
        found = connection.getresponse().status
        connection.close()

    assert found == status
    assert sink.taken == []


def test_broken_json_is_a_400_that_names_the_field() -> None:
    with event_sink() as sink, hooked(sink) as server:
        answer = send(server, webhook(alert(starts_at=7)))

    assert answer.status_code == 400
    assert "$.alerts[0].startsAt" in answer.json()["detail"]


def test_more_connections_than_there_is_room_for_are_told_to_come_again() -> None:
    with event_sink() as sink, hooked(sink) as server:
        silent = [socket.create_connection(_address(server), timeout=30) for _ in range(hook_module.CONNECTIONS)]
        refused = socket.create_connection(_address(server), timeout=30)
        told = refused.recv(64)
        for one in (*silent, refused):
            one.close()

    assert told.startswith(b"HTTP/1.0 503")


def test_a_client_that_does_not_finish_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "READ_S", 0.2)
    with event_sink() as sink, hooked(sink) as server:
        silent, slow = (socket.create_connection(_address(server), timeout=30) for _ in range(2))
        slow.sendall(b"POST /alerts HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
        ends = [one.recv(64) for one in (silent, slow)]
        for one in (silent, slow):
            one.close()
        monkeypatch.undo()
        answer = send(server, webhook(alert()))

    assert ends[0] == b""
    assert ends[1].startswith(b"HTTP/1.0 408")
    assert answer.status_code == 200


def test_a_hook_that_is_stopped_tries_no_longer_and_loses_nothing() -> None:
    with event_sink(503) as sink:
        server = HookServer(RetrainingHook(sink.url, pauses_s=(600.0,)), "127.0.0.1", 0)
        statuses: list[int] = []
        caller = threading.Thread(target=lambda: statuses.append(send(server, webhook(alert())).status_code))
        caller.start()
        sink.wait_taken(1)
        server.close()
        caller.join()

        with hooked(sink) as again:
            after = send(again, webhook(alert())).status_code

    assert (statuses, after) == ([502], 200)
    assert len({body["id"] for _, body in sink.taken}) == 1


def test_a_port_that_is_taken_is_told() -> None:
    with event_sink() as sink, pytest.raises(HookPortError, match="in use"):
        HookServer(RetrainingHook(sink.url), "127.0.0.1", sink.server_address[1])


def test_the_time_of_an_alert_is_compared_with_the_time_of_day() -> None:
    now = datetime.now(UTC)
    young = (now - timedelta(minutes=5)).isoformat()
    with event_sink() as sink, hooked(sink, sustained_s=3_600.0) as server:
        send(server, webhook(alert(starts_at=young)))
        send(server, webhook(alert(starts_at=young, labels={"model": "b"}), alert(labels={"model": "c"})))

    assert [body["subject"] for _, body in sink.taken] == ["churn/c"]
    assert json.dumps(sink.taken[0][1])


def _address(server: HookServer) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").removesuffix("/alerts").rpartition(":")
    return host, int(port)
