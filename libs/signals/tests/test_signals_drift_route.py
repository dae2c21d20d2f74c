"""`slipway.dev/retraining` in slo.yaml: Alertmanager's way to the retraining hook, beside the tickets."""

import subprocess
from pathlib import Path

import pytest
import yaml
from slo_files import AVAILABILITY, read

from slipway_signals.slo.compile import compile_all
from slipway_signals.slo.errors import SloError

OWNER = "slipway.dev/owner: team-churn"
URL = "http://drift-hook:9098/alerts"
DRIFT = {"service": "churn", "owner": "team-churn", "severity": "ticket", "category": "drift", "model": "churn"}


def noted(*urls: str) -> str:
    """An slo.yaml with a document for each URL."""
    return "---\n".join(
        AVAILABILITY.replace(OWNER, f"{OWNER}\n    slipway.dev/retraining: {url}").replace(
            "name: churn-availability", f"name: churn-availability-{number}"
        )
        for number, url in enumerate(urls)
    )


def alertmanager(text: str) -> str:
    return compile_all([read(text)])["alertmanager/alertmanager.yaml"]


@pytest.mark.needs("amtool")
@pytest.mark.parametrize(
    ("changes", "receivers"),
    [
        ({}, "retraining-churn,ticket-team-churn"),
        ({"category": "quality"}, "retraining-churn,ticket-team-churn"),
        ({"category": "restart"}, "ticket-team-churn"),
        ({"model": ""}, "ticket-team-churn"),
        ({"service": "other"}, "ticket-team-churn"),
    ],
    ids=str,
)
def test_drift_of_a_model_reaches_the_hook_and_its_owner(
    changes: dict[str, str], receivers: str, tmp_path: Path
) -> None:
    path = tmp_path / "alertmanager.yaml"
    path.write_text(alertmanager(noted(URL)))
    labels = [f"{name}={value}" for name, value in (DRIFT | changes).items() if value]

    command = ["amtool", "config", "routes", "test", f"--config.file={path}", *labels]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.stdout.strip() == receivers, run.stderr


def test_the_hook_hears_all_alerts_of_a_model_at_once_and_when_they_end() -> None:
    config = yaml.safe_load(alertmanager(noted(URL, URL)))

    (route,) = [one for one in config["route"]["routes"] if one["receiver"] == "retraining-churn"]
    (receiver,) = [one for one in config["receivers"] if one["name"] == "retraining-churn"]
    assert route["group_by"] == ["service", "track", "model"]
    assert route["continue"] is True
    assert receiver["webhook_configs"] == [{"url": URL, "send_resolved": True}]


def test_without_the_annotation_there_is_no_hook() -> None:
    assert "retraining" not in alertmanager(AVAILABILITY)


@pytest.mark.parametrize("url", ["drift-hook:9098", "ftp://x/", "http://me:secret@x/", "http://x/?token=secret"])
def test_what_is_no_address_without_a_secret_is_told(url: str) -> None:
    with pytest.raises(SloError, match=r"slo\.yaml:7:29.*an http or https URL"):
        read(noted(url))


def test_a_service_has_one_hook() -> None:
    with pytest.raises(SloError, match="one retraining hook"):
        read(noted(URL, "http://another/alerts"))
