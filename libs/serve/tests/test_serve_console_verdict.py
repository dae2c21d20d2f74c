"""The first sentence of the console: what it says when, and that it never guesses in favour of the service."""

import math
from typing import Any

import pytest

from slipway_serve.console.facts import Firing, Objective, read_alerts, read_ended, read_objectives
from slipway_serve.console.overview import STALE_S, judge
from slipway_serve.console.words import clock_text, joined, number_text, ratio_text, span_text
from slipway_signals.prometheus import ActiveAlert, Sample

NOW = 1_795_305_709.0


def series(slo: str = "churn-availability", **values: float) -> list[Sample]:
    """What Prometheus records of one objective that is met, with other values where a test says so."""
    service = slo.partition("-")[0]
    shown = {"errors_ratio_rate5m": 0.0, "total_rate5m": 10.0, "budget_remaining_ratio": 0.9} | values
    names = {
        "errors_ratio_rate5m": "slipway:slo_errors:ratio_rate5m",
        "errors_lcb_ratio_rate1h": "slipway:slo_errors_lcb:ratio_rate1h",
        "total_rate5m": "slipway:slo_total:rate5m",
        "budget_remaining_ratio": "slipway:slo_budget_remaining:ratio",
        "burn_rate": "slipway:slo_burn_rate:ratio_rate5m",
    }
    labels = {"slo": slo, "service": service}
    info = Sample({"__name__": "slipway:slo_info", **labels, "title": f"{service} answers", "owner": "team"}, 1)
    fixed = [
        Sample({"__name__": "slipway:slo_objective:ratio", **labels}, 0.999),
        Sample({"__name__": "slipway:slo_error_budget:ratio", **labels}, 0.001),
    ]
    return [info, *fixed, *(Sample({"__name__": names[key], **labels}, value) for key, value in shown.items())]


def objectives(*samples: list[Sample]) -> tuple[Objective, ...]:
    return read_objectives([sample for some in samples for sample in some])


def alerts(*labels: dict[str, str], state: str = "firing") -> tuple[Firing, ...]:
    active = [
        ActiveAlert(
            name=one["alertname"],
            labels={"severity": "page", "service": "churn", "category": "availability"} | one,
            annotations={"summary": f"{one['alertname']} fires"},
            state=state,
            since=NOW - 60 + place,
            value=1.0,
        )
        for place, one in enumerate(labels)
    ]
    return read_alerts(active, [])


FAST: dict[str, Any] = {"alertname": "SlipwaySLOFastBurn", "slo": "churn-availability"}


def test_a_page_about_users_says_who_is_hurt_by_what_and_since_when() -> None:
    failing = objectives(series(errors_ratio_rate5m=0.48, burn_rate=480.0))

    judged = judge(failing, alerts(FAST), 10.0)

    assert judged.level == "hurt"
    assert judged.headline == "Users of churn are hurt"
    assert judged.reason.startswith("48 % of the events of the last 5 min were bad; 0.1 % may be.")
    assert (judged.service, judged.slo, judged.since) == ("churn", "churn-availability", NOW - 60)


def test_the_objective_that_burns_fastest_is_named_first_and_the_others_beside_it() -> None:
    known = objectives(series(burn_rate=20.0), series("documents-availability", burn_rate=300.0))
    other = {"alertname": "SlipwaySLOFastBurn", "slo": "documents-availability", "service": "documents"}

    judged = judge(known, alerts(FAST, other), 10.0)

    assert judged.headline == "Users of churn and documents are hurt"
    assert judged.slo == "documents-availability"
    assert [one.slo for one in judged.others] == ["churn-availability"]


def test_what_is_missed_before_an_alert_fires_is_said_but_only_when_it_is_proven() -> None:
    proven = objectives(series(errors_ratio_rate5m=0.5, errors_lcb_ratio_rate1h=0.01, burn_rate=500.0))
    one_error = objectives(series(errors_ratio_rate5m=0.5, errors_lcb_ratio_rate1h=0.0, burn_rate=500.0))

    assert judge(proven, (), 10.0).level == "failing"
    assert judge(one_error, (), 10.0).level == "fine"


def test_a_ticket_and_a_pending_page_hurt_nobody() -> None:
    met = objectives(series())

    assert judge(met, alerts(FAST | {"severity": "ticket"}), 10.0).level == "fine"
    assert judge(met, alerts(FAST, state="pending"), 10.0).level == "fine"


def test_a_page_about_the_monitoring_is_not_called_harm_to_users() -> None:
    judged = judge(objectives(series()), alerts({"alertname": "SlipwayMonitoringDown", "category": "monitoring"}), 1.0)

    assert judged.level == "watching"
    assert judged.headline == "Users are fine, SlipwayMonitoringDown wakes somebody"


@pytest.mark.parametrize(
    ("known", "age_s", "words"),
    [
        ((), 10.0, "knows no objective"),
        (objectives(series()), None, "no rule was evaluated ever"),
        (objectives(series()), STALE_S + 1, "no rule was evaluated for 2 min"),
        (objectives(series(errors_ratio_rate5m=math.nan, total_rate5m=0.0)), 10.0, "no requests are counted"),
    ],
)
def test_without_evidence_nobody_is_called_fine(known: tuple[Objective, ...], age_s: float | None, words: str) -> None:
    judged = judge(known, (), age_s)

    assert judged.level == "unknown"
    assert words in judged.headline


def test_an_objective_without_events_is_named_beside_those_that_are_met() -> None:
    known = objectives(series(), series("documents-availability", errors_ratio_rate5m=math.nan, total_rate5m=0.0))

    judged = judge(known, (), 10.0)

    assert judged.level == "fine"
    assert judged.reason == "1 of 2 objectives are met, of churn. documents answers: no events."


def test_pages_stand_before_tickets_and_what_fires_before_what_waits() -> None:
    firing = alerts({"alertname": "A"}, {"alertname": "B", "severity": "ticket"})
    waiting = alerts({"alertname": "C"}, state="pending")
    heartbeat = alerts({"alertname": "SlipwayWatchdog"})

    assert [one.name for one in firing] == ["A", "B"]
    assert waiting[0].is_pending
    assert heartbeat == ()


def test_an_alert_that_fires_again_has_not_ended() -> None:
    labels = {"__name__": "ALERTS", "alertstate": "firing", "service": "churn", "category": "x", "severity": "page"}
    ended = Sample({**labels, "alertname": "Ended"}, NOW - 30)
    again = Sample({**labels, "alertname": "Again"}, NOW)
    began = Sample({**labels, "alertname": "Ended"}, NOW - 90)

    found = read_ended([began], [ended, again], alerts({"alertname": "Again", "category": "x"}))

    assert [(one.name, one.since, one.until) for one in found] == [("Ended", NOW - 90, NOW - 30)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (ratio_text(0.001), "0.1 %"),
        (ratio_text(0.4812), "48 %"),
        (ratio_text(1.238), "124 %"),
        (ratio_text(-40.9), "-4,090 %"),
        (ratio_text(math.nan), "unknown"),
        (number_text(14.4), "14.4"),
        (number_text(1250), "1,250"),
        (span_text(0.2), "0 s"),
        (span_text(200), "3 min 20 s"),
        (span_text(3600), "1 h"),
        (span_text(273_600), "3 d 4 h"),
        (clock_text(NOW, NOW + 5), "00:01:49 UTC"),
        (clock_text(NOW, NOW + 172_800), "2026-11-22 00:01 UTC"),
        (joined(["a", "b", "c"]), "a, b and c"),
        (joined([]), ""),
    ],
)
def test_numbers_and_times_read_as_a_person_says_them(said: str, expected: str) -> None:
    assert said == expected
