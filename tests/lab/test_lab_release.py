"""Eight versions of churn are released on a real cluster, with users: one follows the first, six are stopped in time.

What `platform/` makes is applied as it is, with the lab's stack files; load, verdicts, admission, weights and alerts
are the real ones. The table and the picture are in `.tools/lab-release`.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_platform import SLIPWAY
from lab_release import ABORTED, Shop, opened
from lab_release_report import write_report
from lab_versions import BAD, GOOD, VERSIONS, Version

from slipway_lab.state import Lab

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(900), pytest.mark.needs("mmdebstrap")]

REPORT = Path(__file__).parents[2] / ".tools" / "lab-release"
FIRST_WEIGHT = 10
DETECTED_S = 90.0


@pytest.fixture(scope="module")
def shop(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The first version, with users; the report is written at the end."""
    with opened(own_lab, tmp_path_factory.mktemp("release"), VERSIONS[0]) as made:
        yield made
        write_report(made, REPORT)


def test_a_good_version_gets_all_of_the_traffic_by_the_evidence_of_its_jobs(shop: Shop) -> None:
    """Signed, so admitted; measured at each weight; nobody notices."""
    outcome = shop.release(GOOD[1])

    assert (outcome.phase, outcome.failed, outcome.stable_failed) == ("Healthy", 0, 0)
    assert outcome.weight == 100
    passed = {(one["stage"]["stage"], one["verdict"]) for one in outcome.evidence}
    assert passed == {("10", "pass"), ("30", "pass"), ("50", "pass"), ("100", "pass")}
    assert ABORTED not in shop.alerts()


@pytest.mark.parametrize("version", BAD, ids=lambda one: one.name)
def test_a_bad_version_is_stopped_and_users_stay_with_the_one_before(
    shop: Shop, version: Version, tmp_path: Path
) -> None:
    outcome = shop.release(version)

    assert outcome.phase == "Degraded", outcome.message
    assert outcome.weight == (FIRST_WEIGHT if version.stops_at == "gate" else 0)
    assert outcome.stable_failed == 0
    assert shop.until_alert(ABORTED)["service"] == "churn"
    assert not [one for one in shop.alerts().values() if one.get("severity") == "page"]
    if version.stops_at == "gate":
        assert outcome.detected_s is not None
        assert outcome.detected_s <= DETECTED_S
        assert [(one["stage"]["stage"], one["verdict"]) for one in outcome.evidence] == [("10", "fail")]
        _replays(shop, outcome.evidence[0]["evidence"], tmp_path / "evidence.json")
    else:
        assert (outcome.failed, outcome.evidence) == (0, ())
    shop.back_to(GOOD[-1])


def _replays(shop: Shop, digest: str, file: Path) -> None:
    """What is kept is evidence: signed by the Job's key, and the same when it is judged again."""
    file.write_text(shop.verdicts(f"evidence/{digest}"))
    signer = str(shop.platform.place / "gate.pub")
    done = subprocess.run(
        [SLIPWAY, "gate", "replay", str(file), "--signer", signer, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout)["verdict"] == "fail", done.stderr
