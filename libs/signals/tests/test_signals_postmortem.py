"""A post-mortem has the times that Prometheus has, the difference of the bundles, and blanks for people."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from oncall_history import ALERT_OVER, ALERTED, NEW, OLD, OLD_AGAIN, RELEASED, STEP_S, History, incident

from slipway_bundle.diff import BundleDiff, Change
from slipway_signals.postmortem import Incident, IntervalError, incident_of
from slipway_signals.postmortem_page import BLANK, write_postmortem
from slipway_signals.prometheus import Prometheus

NOTHING = Incident(
    service="churn", since=0.0, until=60.0, step_s=1.0, timeline=(), spent=(), counted=(), digests=(),
    first_alert=None, last_resolved=None, released_before_s=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with incident(tmp_path_factory.mktemp("postmortem")) as history:
        yield history


@pytest.fixture(scope="module")
def found(history: History) -> Incident:
    return incident_of(history.prometheus, "churn", history.now - 2_700, history.now)


@pytest.mark.slow
@pytest.mark.needs("prometheus", "promtool", "prometheus-alertmanager")
class TestOfAnIncident:
    """What the history says."""

    def test_the_timeline_has_what_happened_when(self, history: History, found: Incident) -> None:
        events = [(event.kind, round(history.now - event.at)) for event in found.timeline]

        wanted = [
            ("release", 2_700),
            ("release", RELEASED),
            ("gone", RELEASED),
            ("alert", ALERTED),
            ("burn", ALERTED),
            ("release", OLD_AGAIN),
            ("gone", OLD_AGAIN),
            ("resolved", ALERT_OVER),
        ]
        assert sorted(kind for kind, _ in events) == sorted(kind for kind, _ in wanted)
        for kind, ago in wanted:
            near = [abs(ago - other) for same, other in events if same == kind]
            assert min(near) <= found.step_s * 4 + STEP_S + 5, (kind, ago, events)

    def test_what_was_there_before_is_said_to_be(self, found: Incident) -> None:
        assert found.timeline[0].what == f"1.0.0 ({OLD[:19]}) is served already"
        assert f"1.1.0 ({NEW[:19]}) is served" in [event.what for event in found.timeline]

    def test_who_is_told_nothing_is_not_in_it(self, found: Incident) -> None:
        assert not [event for event in found.timeline if "DeployInProgress" in event.what]

    def test_the_figures_are_those_of_the_history(self, history: History, found: Incident) -> None:
        (spent,) = found.spent

        assert (spent.left_before, spent.left_after, spent.worst_burn) == (0.9, 0.25, 200)
        assert spent.bad == pytest.approx(2 * (ALERTED - ALERT_OVER), rel=0.05)
        assert spent.total == pytest.approx(10 * 2_700, rel=0.05)
        assert found.digests == (OLD, NEW)
        assert found.released_before_s == pytest.approx(RELEASED - ALERTED, abs=8)
        assert found.last_resolved == pytest.approx(history.now - ALERT_OVER, abs=10)

    def test_an_alert_that_still_fires_has_no_end(self, history: History) -> None:
        during = incident_of(history.prometheus, "churn", history.now - 2_700, history.now - ALERTED + 120)

        assert during.first_alert is not None
        assert during.last_resolved is None
        assert "resolved" not in [event.kind for event in during.timeline]
        assert "an alert still fires" in write_postmortem(during, None)

    def test_the_page_tells_it_in_order(self, found: Incident) -> None:
        page = write_postmortem(found, None)

        times = [
            datetime.fromisoformat(at)
            for at in re.findall(r"^\| (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \|", page, re.MULTILINE)
        ]
        assert len(times) == len(found.timeline)
        assert times == sorted(times)
        assert "| churn-availability | 1,2" in page


def test_the_difference_says_what_became_of_the_training_data() -> None:
    changes = (
        Change(area="code", name="service.py", before="sha256:aa", after="sha256:bb"),
        Change(area="lineage", name="dataset", before="a|b", after=None),
    )
    difference = BundleDiff(
        before="churn:1", after="churn:2", is_same_content=False, is_same_bundle=False, changes=changes,
        size_before_bytes=1, size_after_bytes=1, shared_bytes=0,
    )  # fmt: skip

    page = write_postmortem(NOTHING, difference)

    assert page.index("| lineage | dataset | a\\|b | - |") < page.index("| code | service.py |")
    assert "Training data and lineage are the same" not in page


def test_no_difference_says_why() -> None:
    assert "Not compared: the store has no such bundle." in write_postmortem(
        NOTHING, None, "the store has no such bundle"
    )


def test_what_only_people_know_is_blank() -> None:
    page = write_postmortem(NOTHING, None)

    assert page.startswith(f"# churn: {BLANK} ({datetime.fromtimestamp(0, UTC):%Y-%m-%d})")
    for heading in ("Summary", "Cause", "What went well", "What went badly", "Where we were lucky", "Actions"):
        below = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        assert BLANK in below, heading


@pytest.mark.parametrize(("since", "until"), [(10.0, 10.0), (20.0, 10.0), (0.0, 40 * 86_400.0)])
def test_an_interval_that_is_none_is_refused(since: float, until: float) -> None:
    with pytest.raises(IntervalError, match="expected more than 0 and at most 30 days"):
        incident_of(Prometheus("http://127.0.0.1:9"), "churn", since, until)
