"""Routes and deploy windows as text: what is refused, and what Alertmanager is given. Live: tests/alerts."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from slo_files import AVAILABILITY, LATENCY, read

from slipway_signals.slo.alertmanager import render_alertmanager
from slipway_signals.slo.errors import SloError
from slipway_signals.slo.model import DAYS
from slipway_signals.slo.selectors import Matcher, parse_selector

DAY_MINUTES = 24 * 60
OWNERS = ("team churn", 'the "A" team', "a\\b", "a/b?c#d", "müller@example.com", "x" * 300)


def with_note(text: str, note: str) -> str:
    """An `slo.yaml` with one annotation more."""
    return text.replace("owner: team-churn", f"owner: team-churn\n    {note}")


def windowed(*windows: str) -> str:
    """Objectives, each with a window."""
    texts = [
        with_note(AVAILABILITY, f"slipway.dev/deploy-window: {window}").replace("churn-availability", f"churn-{number}")
        for number, window in enumerate(windows)
    ]
    return "---\n".join(texts)


def config_of(text: str) -> dict[str, Any]:
    """The compiled configuration."""
    found: dict[str, Any] = yaml.safe_load(render_alertmanager([read(text)]))
    return found


def muted(text: str) -> set[int]:
    """Minutes of the week, from Monday, in which Alertmanager mutes: its documented meaning of intervals."""
    found = set()
    for interval in config_of(text)["time_intervals"][0]["time_intervals"]:
        for days in interval["weekdays"]:
            first, _, last = days.partition(":")
            for day in range(DAYS.index(first), DAYS.index(last or first) + 1):
                for times in interval["times"]:
                    start, end = (minutes(times[name]) for name in ("start_time", "end_time"))
                    assert start < end
                    found |= {day * DAY_MINUTES + minute for minute in range(start, end)}
    return found


def minutes(clock: str) -> int:
    """`HH:MM` since midnight."""
    return int(clock[:2]) * 60 + int(clock[3:])


clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))


@given(first=st.integers(0, 6), more=st.integers(0, 6), start=clocks, end=clocks | st.just("24:00"))
def test_a_window_mutes_the_minutes_that_it_names(first: int, more: int, start: str, end: str) -> None:
    """Also over midnight, and from Sunday to Monday."""
    last = min(first + more, 6)
    text = windowed(f"{DAYS[first]}:{DAYS[last]} {start}-{end} UTC")
    if start == end:
        with pytest.raises(SloError, match="expected a time of the week"):
            read(text)
        return

    found = muted(text)

    length = (minutes(end) - minutes(start)) % DAY_MINUTES or DAY_MINUTES
    begins = [day * DAY_MINUTES + minutes(start) for day in range(first, last + 1)]
    assert found == {(begin + minute) % (7 * DAY_MINUTES) for begin in begins for minute in range(length)}


def test_windows_of_several_objectives_are_added_up_and_may_overlap() -> None:
    parts = ("monday:friday 09:00-10:00 UTC", "wednesday 09:30-11:00 UTC", "monday:friday 09:00-10:00 UTC")
    found = muted(windowed(*parts))

    assert found == muted(windowed(parts[0])) | muted(windowed(parts[1]))
    assert len(config_of(windowed(*parts))["time_intervals"][0]["time_intervals"]) == 2


@pytest.mark.parametrize(
    "window",
    [
        "someday 09:00-10:00 UTC",
        "Monday 09:00-10:00 UTC",
        "monday,friday 09:00-10:00 UTC",
        "sunday:monday 09:00-10:00 UTC",
        "monday 09:00-09:00 UTC",
        "monday 9:00-10:00 UTC",
        "monday 24:00-01:00 UTC",
        "monday 09:00-10:60 UTC",
        "monday 09:00-10:00 CET",
        "monday 09:00-10:00",
        "monday 09:00-10:00 UTC monday 11:00-12:00 UTC",
    ],
)
def test_what_is_no_window_is_told_with_its_line(window: str) -> None:
    with pytest.raises(SloError, match=r"slo\.yaml:7:32.*expected (a time of the week|days in the order)"):
        read(windowed(window))


def test_the_tickets_of_a_service_with_a_window_are_grouped_as_those_of_any_other() -> None:
    """Two models that drift are two messages, with a window and without."""
    plain = [route["group_by"] for route in config_of(AVAILABILITY)["route"]["routes"] if is_ticket(route)]
    routes = config_of(windowed("monday 09:00-10:00 UTC"))["route"]["routes"]

    waiting = [route for route in routes if "mute_time_intervals" in route]
    assert [route["group_by"] for route in waiting] == [["service", "model", "category"], ["service", "category"]]
    assert [route["group_by"] for route in waiting] == plain[-2:]


@pytest.mark.parametrize(("category", "waits"), [("restart", True), ("release", False)])
def test_what_a_release_says_of_itself_waits_for_no_window(category: str, *, waits: bool) -> None:
    """A window is when releases are made: that one was stopped is to be told then."""
    labels = {"owner": "team-churn", "severity": "ticket", "service": "churn", "category": category}
    routes = config_of(windowed("monday 09:00-10:00 UTC"))["route"]["routes"]

    taken = next(route for route in routes if all(fits(one, labels) for one in route["matchers"]))

    assert taken["receiver"] == "ticket-team-churn"
    assert ("mute_time_intervals" in taken) is waits


def test_a_deploy_keeps_quiet_nothing_that_a_release_says_of_itself() -> None:
    inhibited = {
        rule["source_matchers"][0]: rule["target_matchers"] for rule in config_of(AVAILABILITY)["inhibit_rules"]
    }

    targets = inhibited['alertname="SlipwayDeployInProgress"']
    assert all(fits(one, {"severity": "ticket", "category": "restart"}) for one in targets)
    assert not all(fits(one, {"severity": "ticket", "category": "release"}) for one in targets)


def fits(matcher: str, labels: dict[str, str]) -> bool:
    """As Alertmanager reads a matcher: a label that is not there is empty."""
    found = parse_selector(f"x{{{matcher}}}").matchers[0]
    return found.accepts(labels.get(found.label, ""))


def is_ticket(route: dict[str, Any]) -> bool:
    """Whether tickets take this route."""
    return 'severity="ticket"' in route.get("matchers", [])


@pytest.mark.needs("amtool")
@pytest.mark.parametrize("owner", OWNERS, ids=["space", "quotes", "backslash", "url", "mail", "long"])
def test_any_owner_has_routes_that_alertmanager_reads(owner: str, tmp_path: Path) -> None:
    text = AVAILABILITY.replace("team-churn", "'" + owner + "'") + "---\n" + LATENCY
    path = tmp_path / "alertmanager.yaml"
    path.write_text(render_alertmanager([read(text)]))

    labels = {"owner": owner, "severity": "page", "service": "churn"}
    pairs = [Matcher(name, "=", value).text for name, value in labels.items()]
    run = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={path}", *pairs],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.stdout.strip() == f"page-{owner}", run.stderr
    urls = [one["webhook_configs"][0]["url"] for one in yaml.safe_load(path.read_text())["receivers"][1:]]
    assert all(url.isascii() and url.count("/") == 3 + ("/watchdog" not in url) for url in urls)


@pytest.mark.parametrize("word", ["{{ x", "a\nb", "{{ $value }}"])
@pytest.mark.parametrize("field", ["owner", "displayName"])
def test_words_that_prometheus_would_take_for_a_template_are_refused(field: str, word: str) -> None:
    quoted = '"' + word.replace("\n", "\\n") + '"'
    text = (
        AVAILABILITY.replace("team-churn", quoted)
        if field == "owner"
        else AVAILABILITY.replace("{target:", f"{{displayName: {quoted}, target:")
    )

    with pytest.raises(SloError, match="expected"):
        read(text)


def test_the_dead_mans_switch_is_told_of_life_only() -> None:
    """A "resolved" would be taken for one more heartbeat."""
    receivers = {one["name"]: one for one in config_of(AVAILABILITY)["receivers"]}

    assert receivers["watchdog"]["webhook_configs"][0]["send_resolved"] is False
    assert receivers["page-team-churn"]["webhook_configs"][0]["send_resolved"] is True


@pytest.mark.needs("amtool")
def test_that_messages_are_lost_is_told_in_two_ways(tmp_path: Path) -> None:
    """One of them may be the way on which messages are lost."""
    path = tmp_path / "alertmanager.yaml"
    path.write_text(render_alertmanager([read(AVAILABILITY)]))
    labels = ["alertname=SlipwayNotificationsFailing", "owner=platform", "severity=ticket", "service=monitoring"]

    command = ["amtool", "config", "routes", "test", f"--config.file={path}", *labels]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.stdout.strip() == "page-platform,ticket-platform", run.stderr
