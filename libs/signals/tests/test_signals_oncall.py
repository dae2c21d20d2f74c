"""The first minute: which release since when, what is left, what it is, and what cannot be found out."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from oncall_history import ALERTED, NEW, OLD, OLD_AGAIN, RELEASED, STEP_S, History, incident

from slipway_signals.alertmanager import Alertmanager, AlertmanagerError, Routed, routed_as
from slipway_signals.oncall import brief, chosen_alerts
from slipway_signals.oncall_asking import Asking, value_text
from slipway_signals.oncall_firing import firing
from slipway_signals.oncall_releases import Release, previous_of, releases_of, runs_of, served_of
from slipway_signals.prometheus import ActiveAlert, Prometheus, PrometheusError
from slipway_signals.runbooks import Cause, Evidence, Runbook

NOBODY = "http://127.0.0.1:9"
needs_prometheus = pytest.mark.needs("prometheus", "promtool", "prometheus-alertmanager")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with incident(tmp_path_factory.mktemp("oncall")) as history:
        yield history


def page(*causes: Cause, evidence: tuple[Evidence, ...] = ()) -> Runbook:
    """A page of the alert in the history."""
    return Runbook(
        name="SlipwaySLOFastBurn",
        alert="SlipwaySLOFastBurn",
        alerts=("SlipwaySLOFastBurn",),
        severity="page (ticket where the objective says so)",
        owner="service owner",
        title="SlipwaySLOFastBurn",
        evidence=evidence,
        causes=causes,
        sections=(),
    )


def release(digest: str, since: float, until: float | None = None, track: str = "") -> Release:
    """A release of churn."""
    return Release(
        service="churn", version="1", digest=digest, track=track, since=since, is_since_known=True, until=until
    )


def alert(name: str, state: str = "firing", severity: str = "page", since: float = 1.0, **labels: str) -> ActiveAlert:
    """An alert as Prometheus tells it."""
    return ActiveAlert(
        name=name,
        labels={"alertname": name, "severity": severity, **labels},
        annotations={},
        state=state,
        since=since,
        value=1.0,
    )


@contextmanager
def mute() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []
        is_over = threading.Event()

        def hold() -> None:
            listener.settimeout(0.1)
            while not is_over.is_set():
                try:
                    held.append(listener.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hold)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        is_over.set()
        thread.join()
        for connection in held:
            connection.close()


@pytest.mark.slow
@needs_prometheus
def test_a_release_that_came_back_is_dated_by_its_coming_back(history: History) -> None:
    (old, new) = releases_of(history.prometheus, history.now, "churn")

    assert (old.digest, old.until) == (OLD, None)
    assert old.since == pytest.approx(history.now - OLD_AGAIN, abs=2 * STEP_S)
    assert old.is_since_known
    assert new.digest == NEW
    assert new.since == pytest.approx(history.now - RELEASED, abs=2 * STEP_S)
    assert new.until == pytest.approx(history.now - OLD_AGAIN, abs=8)


@pytest.mark.slow
@needs_prometheus
def test_the_answer_is_that_of_the_moment_that_was_asked_about(history: History) -> None:
    """At the time of the alert the new release was served, and the old one was what to go back to."""
    during = history.now - ALERTED + 60
    found = releases_of(history.prometheus, during, "churn")

    assert [each.digest for each in served_of(found)] == [NEW]
    previous = previous_of(found)
    assert previous is not None
    assert previous.digest == OLD


@pytest.mark.slow
@needs_prometheus
def test_a_brief_of_a_quiet_alert_still_answers(history: History) -> None:
    two = 'count(count by (digest) (last_over_time(slipway_build_info{service="$service"}[2h]))) > 1'
    asked = Evidence(id="left", question="How much is left?", promql='slipway:slo_budget_remaining:ratio{slo="$slo"}',
                     empty="nothing", unit="ratio")  # fmt: skip
    causes = (
        Cause(name="nothing", promql="absent(vector(1))", why="", step=""),
        Cause(name="the release", promql=two, why="$value releases", step="go back",
              command="slipway swap $previous --admin $admin --server $server"),
    )  # fmt: skip
    labels = {"service": "churn", "slo": "churn-availability"}

    told = brief(history.prometheus, page(*causes, evidence=(asked,)), labels, history.now)

    assert (told.state, told.since, told.severity) == ("quiet", None, "page")
    assert told.answers[0].rows[0].text == "churn-availability  25 %"
    assert told.budgets[0].left_ratio == 0.25
    assert told.likely is not None
    assert (told.likely.name, told.likely.why) == ("the release", "2 releases")
    assert told.likely.command == f"slipway swap {NEW} --admin http://127.0.0.1:8002 --server $server"
    assert told.causes[0].holds is False


@pytest.mark.slow
@needs_prometheus
def test_what_cannot_be_asked_is_said_and_costs_nothing_else(history: History) -> None:
    asked = (
        Evidence(id="wrong", question="?", promql="up{", empty="none"),
        Evidence(id="nameless", question="?", promql='up{pool="$pool"}', empty="none"),
        Evidence(id="none", question="?", promql="absent(vector(1))", empty="there is none"),
    )
    causes = (
        Cause(name="unknown", promql="up{", why="", step=""),
        Cause(name="what remains", why="", step=""),
    )

    told = brief(history.prometheus, page(*causes, evidence=asked), {"service": "churn"}, history.now)

    wrong, nameless, none = told.answers
    assert wrong.problem is not None
    assert "refuses" in wrong.problem
    assert nameless.problem is not None
    assert "`$pool` has no value" in nameless.problem
    assert (none.says, none.problem) == ("there is none", None)
    assert told.likely is None, "what remains is only known when everything else was asked"
    assert any("whether it is unknown" in problem for problem in told.problems)


@pytest.mark.slow
@needs_prometheus
def test_a_service_that_nobody_knows_has_no_release(history: History) -> None:
    told = brief(history.prometheus, page(), {"service": 'x"} or vector(1) #'}, history.now)

    assert told.releases == ()
    assert told.budgets == ()
    assert told.top_error is None
    assert told.previous is None


@pytest.mark.slow
@needs_prometheus
def test_when_the_patience_is_over_nothing_more_is_asked(history: History) -> None:
    asked = tuple(Evidence(id=str(n), question="?", promql="vector(1)", empty="none") for n in range(3))

    told = brief(history.prometheus, page(evidence=asked), {}, history.now, patience_s=-1)

    assert all(answer.problem and answer.problem.startswith("not asked") for answer in told.answers)


def test_a_prometheus_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PrometheusError, match="cannot ask Prometheus"):
        brief(Prometheus(NOBODY), page(), {}, 0.0)


def test_a_prometheus_that_says_nothing_is_an_error_soon() -> None:
    with mute() as url:
        begun = time.monotonic()
        with pytest.raises(PrometheusError, match="no answer within"):
            firing(Prometheus(url, timeout_s=0.2))

    assert time.monotonic() - begun < 5


def test_an_alertmanager_that_is_none_is_an_error() -> None:
    with pytest.raises(AlertmanagerError, match="cannot ask Alertmanager"):
        Alertmanager(NOBODY).routed()


def test_an_alert_is_known_to_alertmanager_by_its_labels_and_those_that_prometheus_adds() -> None:
    one = Routed(labels={"alertname": "A", "service": "churn", "cluster": "eu-1"})

    assert routed_as({"alertname": "A", "service": "churn"}, [one]) is one
    assert routed_as({"alertname": "A", "service": "documents"}, [one]) is None


def test_one_refused_question_is_no_sample_where_none_is_needed() -> None:
    asking = Asking(Prometheus(NOBODY), 0.0)

    assert asking.samples_or_nothing("up") == []


def test_the_most_urgent_alert_is_chosen() -> None:
    alerts = [
        alert("A", state="pending", since=1),
        alert("A", severity="ticket", since=2),
        alert("A", since=4, service="churn", slo="x"),
        alert("A", since=3, service="churn"),
        alert("B", since=0, service="churn"),
    ]

    chosen = chosen_alerts(alerts, ("A",), {})

    assert [one.since for one in chosen] == [3, 4, 2, 1]
    assert [one.since for one in chosen_alerts(alerts, ("A", "B"), {"slo": "x"})] == [4]


def test_the_canary_is_on_trial_whenever_it_came() -> None:
    stable, canary = release("s", since=9.0, track="stable"), release("c", since=1.0, track="canary")

    assert served_of([stable, canary]) == (canary, stable)
    assert previous_of([stable, canary]) == stable


def test_what_to_go_back_to() -> None:
    now, before, older = release("n", 5.0), release("b", 3.0, until=5.0), release("o", 1.0, until=3.0)

    assert previous_of([now, before, older]) == before
    assert previous_of([now]) is None
    assert previous_of([now, release("", 1.0, until=5.0)]) is None, "a folder keeps no version"
    assert previous_of([before, older]) is None, "nothing is served"


def test_a_gap_ends_a_run() -> None:
    assert runs_of([0, 2, 4, 6], 2) == [(0, 6)]
    assert runs_of([0, 2, 8, 9], 2) == [(0, 9)]
    assert runs_of([0, 2, 9, 11], 2) == [(0, 2), (9, 11)]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0412, "ratio", "4.12 %"),
        (-41.6, "ratio", "-4,160 %"),
        (0.012, "seconds", "12 ms"),
        (90.0, "seconds", "90 s"),
        (5_400.0, "seconds", "90 min"),
        (1e9, "seconds", "1.16e+04 d"),
        (2.1e9, "bytes", "2.1 GB"),
        (2.013, "requests", "2 requests"),
        (0.0137, "requests", "0.0137 requests"),
        (3.217, "requests/s", "3.22 requests/s"),
        (12_345.6, "requests/s", "12,346 requests/s"),
        (1.0, "yes", "yes"),
        (0.0, "yes", "no"),
        (46.041, "", "46.04"),
        (float("inf"), "ratio", "endless"),
        (0.0042, "USD", "0.0042 USD"),
    ],
)
def test_a_number_is_written_as_a_person_reads_it(value: float, unit: str, text: str) -> None:
    assert value_text(value, unit) == text
