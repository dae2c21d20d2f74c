"""Where no lab can run, or another process is at it, `up` says so and touches nothing."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway_lab import addons, cluster, monitoring, state, system
from slipway_lab.errors import CannotRunError, RunningError
from slipway_lab.state import Place


@pytest.fixture
def place() -> Iterator[Place]:
    """Of a lab that nobody has; its folder is short, for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield state.place_of(Path(folder), "nobody-has-this")


def test_without_root_it_says_who_would_be_needed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(CannotRunError, match="needs root for namespaces, mounts and control groups, got user 1000"):
        cluster.up(place, print)

    assert not list(place.home.iterdir())


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda called, path: f"/bin/{called}" if called == "ip" else None)

    with pytest.raises(CannotRunError, match="not installed: mount, nft, nsenter, unshare, runc") as refused:
        system.check()

    assert refused.value.hint == "`sh scripts/system-packages.sh`"


def test_two_processes_do_not_start_and_stop_one_lab_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "check", lambda: None)
    place.home.mkdir(exist_ok=True)
    with place.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(RunningError, match="another process starts or stops lab 'nobody-has-this' right now"):
            cluster.up(place, print)


def test_a_lab_that_never_was_has_no_status_and_needs_no_end(place: Place) -> None:
    assert cluster.status(place) is None
    assert cluster.down(place, print) is False


def test_what_was_left_by_a_crash_is_seen_and_removed(place: Place) -> None:
    (place.folder / "etcd").mkdir(parents=True)
    (place.folder / "lab.json").write_text("{")

    found = cluster.status(place)
    assert found is not None
    assert found.state == "left"
    assert cluster.down(place, print) is True

    assert not place.folder.exists()


def test_every_service_of_a_process_has_an_address_to_lead_to() -> None:
    objects = addons.objects()

    services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
    slices = {one["metadata"]["labels"]["kubernetes.io/service-name"]: one for one in objects if "endpoints" in one}
    assert set(services) == set(slices) >= {"kube-dns", "metrics-server", "prometheus", "alertmanager", "traefik"}
    for name, service in services.items():
        targets = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
        assert {port["name"]: port["port"] for port in slices[name]["ports"]} == targets
    made = [one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"]
    assert {one["metadata"]["namespace"] for one in services.values()} <= {*made, "kube-system"}


def test_every_job_of_prometheus_has_a_name_of_its_own_and_its_targets(place: Place) -> None:
    settings = monitoring.prometheus_settings(place)

    jobs = [job["job_name"] for job in settings["scrape_configs"]]
    assert len(set(jobs)) == len(jobs)
    assert {"slipway", "pods", "argo-rollouts", "traefik", "kubelet"} <= set(jobs)
    (services,) = [job for job in settings["scrape_configs"] if job["job_name"] == "slipway"]
    labels = {one["target_label"] for one in services["relabel_configs"] if "target_label" in one}
    assert labels == {"service", "track", "rollouts_pod_template_hash", "namespace", "pod"}
