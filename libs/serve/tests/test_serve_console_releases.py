"""What is served, when it changes between two questions to Prometheus."""

from collections.abc import Sequence
from typing import Any

from slipway_serve.console.releases import Releases
from slipway_signals.prometheus import Sample, Series

NOW = 1_795_000_000.0


class Told:
    """Answers about versions of `moody`: which are there now, and since when the past knows each."""

    def __init__(self, now: Sequence[str], since: dict[str, float]) -> None:
        self.now, self.since = now, since
        self.asked = 0

    def instant(self, _query: str) -> list[Sample]:
        return [Sample(labels=labels(version), value=1.0) for version in self.now]

    def range(self, _query: str, start: float, end: float, step_s: float) -> list[Series]:
        self.asked += 1
        points = [start + step_s * number for number in range(int((end - start) / step_s) + 1)]
        return [
            Series(labels=labels(version), points=tuple((at, 1.0) for at in points if at >= since))
            for version, since in self.since.items()
            if since <= points[-1]
        ]


def labels(version: str) -> dict[str, str]:
    return {"service": "moody", "version": version, "digest": f"sha256:{version}", "track": ""}


def shown(releases: Releases, now: float) -> list[tuple[str, int]]:
    return [(one.release.version, one.targets) for one in releases.served(now)]


def test_a_release_that_begins_between_two_questions_is_on_the_next_page() -> None:
    """Prometheus knew it when it was asked for now, and its past ended a moment before."""
    prometheus: Any = Told(["2"], {"1": NOW - 600, "2": NOW + 1})
    releases = Releases(prometheus)

    releases.served(NOW)

    assert shown(releases, NOW + 10) == [("2", 1)]


def test_what_did_not_change_is_not_asked_for_again() -> None:
    prometheus: Any = Told(["1"], {"1": NOW - 600})
    releases = Releases(prometheus)

    first = shown(releases, NOW)
    asked = prometheus.asked

    assert first == shown(releases, NOW + 5) == [("1", 1)]
    assert prometheus.asked == asked


def test_the_version_before_is_not_shown_beside_the_one_that_took_its_place() -> None:
    prometheus: Any = Told(["1", "2"], {"1": NOW - 600, "2": NOW - 60})
    releases = Releases(prometheus)

    together = shown(releases, NOW)
    prometheus.now = ["2"]

    assert together == [("2", 1), ("1", 1)]
    assert shown(releases, NOW + 2) == [("2", 1)]


def test_a_service_that_nobody_answers_for_is_shown_with_what_it_served() -> None:
    prometheus: Any = Told(["1"], {"1": NOW - 600})
    releases = Releases(prometheus)

    releases.served(NOW)
    prometheus.now = []

    assert shown(releases, NOW + 2) == [("1", 0)]
