"""Where a lab keeps what it has: names, folders, `lab.json`, and addresses that do not meet."""

from pathlib import Path

import msgspec
import pytest

from slipway_lab import network, state
from slipway_lab.errors import LabError, NotRunningError
from slipway_lab.state import Lab

LAB = Lab(
    name="lab",
    folder="/x",
    kubeconfig="/x/kubeconfig",
    namespace="lab",
    node="node-lab",
    registry="10.230.0.1:5000",
    ingress="http://10.230.0.1:8088",
    prometheus="http://10.230.0.1:9090",
    alertmanager="http://10.230.0.1:9093",
    rules="/x/rules",
)


def test_what_is_saved_is_what_is_loaded(lab_home: Path) -> None:
    place = state.place_of(lab_home, "lab")
    place.folder.mkdir()

    state.save(place, LAB)

    assert state.load(place) == LAB
    assert [path.name for path in place.folder.iterdir()] == ["lab.json"]


def test_a_newer_labs_fields_are_accepted(lab_home: Path) -> None:
    place = state.place_of(lab_home, "lab")
    place.folder.mkdir()
    newer = msgspec.to_builtins(LAB) | {"storage": "fast"}

    place.file.write_bytes(msgspec.json.encode(newer))

    assert state.load(place) == LAB


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"name": 3}'])
def test_a_lab_that_is_not_ready_is_not_running(lab_home: Path, content: bytes | None) -> None:
    place = state.place_of(lab_home, "lab")
    place.folder.mkdir()
    if content is not None:
        place.file.write_bytes(content)

    with pytest.raises(NotRunningError):
        state.load(place)


@pytest.mark.parametrize("name", ["", "Lab", "-lab", "lab-", "a/b", "..", "x" * 25, "läb"])
def test_a_name_that_cannot_be_a_host_is_refused(lab_home: Path, name: str) -> None:
    with pytest.raises(LabError, match="cannot name a lab"):
        state.place_of(lab_home, name)


def test_a_folder_that_is_too_deep_for_sockets_is_refused(lab_home: Path) -> None:
    with pytest.raises(LabError, match="bytes long, expected at most") as refused:
        state.place_of(lab_home / ("x" * state.LONGEST_FOLDER), "lab")

    assert "SLIPWAY_LAB_HOME" in str(refused.value.hint)


def test_home_is_the_variable_then_the_users_data_folder() -> None:
    assert state.lab_home({"SLIPWAY_LAB_HOME": "/a", "HOME": "/h"}) == Path("/a")
    assert state.lab_home({"XDG_DATA_HOME": "/d", "HOME": "/h"}) == Path("/d/slipway/lab")
    assert state.lab_home({"HOME": "/h"}) == Path("/h/.local/share/slipway/lab")


def test_labs_of_one_name_in_two_homes_are_two_labs(lab_home: Path) -> None:
    here, there = state.place_of(lab_home / "a", "lab"), state.place_of(lab_home / "b", "lab")

    assert here.cgroup != there.cgroup


def test_networks_do_not_overlap_and_hold_what_is_said_of_them() -> None:
    nodes, pods, services = network.NODES, network.PODS, network.SERVICES

    assert not any((nodes.overlaps(pods), nodes.overlaps(services), pods.overlaps(services)))
    assert network.NODE in nodes
    assert network.DNS_SERVICE in services
    assert next(services.hosts()) == network.API_SERVICE
