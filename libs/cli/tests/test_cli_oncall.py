"""`slipway oncall` and `slipway postmortem new`: what fires, one alert, the beginning of a post-mortem.

What a live stack answers is tested in `tests/watched`; here are the words, the statuses and what is refused.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_commands import ROOT, Slipway
from oncall_history import NEW, OLD, History, incident

NOBODY = "http://127.0.0.1:9"
needs_prometheus = pytest.mark.needs("prometheus", "promtool", "prometheus-alertmanager")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with incident(tmp_path_factory.mktemp("history")) as history:
        yield history


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the pages are."""
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
@needs_prometheus
def test_nothing_fires_where_nothing_fires(slipway: Slipway, history: History) -> None:
    said = slipway("oncall", "--prometheus", history.prometheus.url)

    assert (said.status, said.out) == (0, "")
    assert "no alerts fire" in said.err


@pytest.mark.slow
@needs_prometheus
@pytest.mark.usefixtures("repository")
def test_a_page_opens_with_live_answers_filled_in(slipway: Slipway, history: History) -> None:
    said = slipway("oncall", "SlipwaySLOFastBurn", "--service", "churn", "--prometheus", history.prometheus.url)

    assert said.status == 0, said.err
    assert f"1.0.0 ({OLD[:19]}) since " in said.out
    assert "likely  the release" in said.out
    assert f"slipway swap {NEW} --admin http://127.0.0.1:8002" in said.out
    assert "none: no request failed in the last 5 minutes" in said.out
    assert said.out.index("likely") < said.out.index("Meaning") < said.out.index("Mitigation")


@pytest.mark.slow
@needs_prometheus
@pytest.mark.usefixtures("repository")
def test_the_same_as_one_object(slipway: Slipway, history: History) -> None:
    words = ("oncall", "SlipwaySLOFastBurn", "--service", "churn", "--prometheus", history.prometheus.url, "--json")

    told = slipway(*words).document["brief"]

    assert told["likely"]["name"] == "the release"
    assert told["previous"]["digest"] == NEW
    assert [answer["id"] for answer in told["answers"]] == ["failing", "slow", "refused", "burn"]


@pytest.mark.usefixtures("repository")
def test_an_alert_without_a_page_names_the_nearest(slipway: Slipway) -> None:
    said = slipway("oncall", "SlipwayFastBurn", "--prometheus", NOBODY)

    assert said.status == 2
    assert "did you mean SlipwaySLOFastBurn" in said.err


@pytest.mark.parametrize("alert", [(), ("SlipwayShedding",)], ids=["all", "one"])
@pytest.mark.usefixtures("repository")
def test_a_prometheus_that_is_not_there_is_the_environment(slipway: Slipway, alert: tuple[str, ...]) -> None:
    said = slipway("oncall", *alert, "--prometheus", NOBODY)

    assert said.status == 3
    assert f"cannot ask Prometheus at {NOBODY}" in said.err


@pytest.mark.usefixtures("repository")
def test_without_a_prometheus_the_page_is_there_all_the_same(slipway: Slipway) -> None:
    said = slipway("oncall", "SlipwaySLOFastBurn", "--service", "churn", "--prometheus", NOBODY)

    assert said.status == 3
    for heading in ("Meaning", "Diagnosis", "Mitigation", "Escalation"):
        assert heading in said.out
    assert "churn" in said.out


def test_an_address_that_is_none_is_wrong_usage(slipway: Slipway) -> None:
    said = slipway("oncall", "--prometheus", "prom:9090")

    assert said.status == 2
    assert "expected http://HOST:PORT" in said.err


@pytest.mark.slow
@needs_prometheus
def test_an_alertmanager_that_is_gone_hides_nothing(slipway: Slipway, history: History) -> None:
    said = slipway("oncall", "--prometheus", history.prometheus.url, "--alertmanager", NOBODY)

    assert said.status == 0
    assert "cannot ask Alertmanager" in said.err


@pytest.mark.slow
@needs_prometheus
def test_a_post_mortem_begins_with_what_is_known(slipway: Slipway, history: History, tmp_path: Path) -> None:
    path = tmp_path / "page"

    said = slipway(
        "postmortem", "new", "churn", "--since", "45m", "--out", path, "--prometheus", history.prometheus.url
    )

    page = path.read_text()
    assert said.status == 0, said.err
    assert said.out.strip() == str(path)
    assert "blanks are for people" in said.err
    assert "SlipwaySLOFastBurn (page, churn-availability) fires" in page
    assert "Not compared: " in page, "the store has neither of these bundles"


@pytest.mark.slow
@needs_prometheus
def test_what_is_written_already_is_kept(slipway: Slipway, history: History, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("mine")

    said = slipway("postmortem", "new", "churn", "--out", path, "--prometheus", history.prometheus.url)

    assert said.status == 2
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--since", "yesterday"), "expected a length"),
        (("--since", "2026-11-22T03:00:00"), "a time with its zone"),
        (("--from-bundle", "churn:1"), "belong together"),
        (("--since", "1h", "--until", "2h"), "the interval is -3600 s long"),
    ],
)
def test_what_cannot_be_meant_is_refused(slipway: Slipway, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    said = slipway("postmortem", "new", "churn", *words, "--out", tmp_path / "page", "--prometheus", NOBODY)

    assert said.status == 2
    assert told in said.err
    assert not (tmp_path / "page").exists()
