"""One lab for all tests of a run: the one that `SLIPWAY_LAB` names, the cluster of `KUBECONFIG`, or one of its own.

Tests that use it are marked `e2e` and `alone`: they run one after the other in one process, so there is one lab.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator

import lab_client
import pytest

from slipway_lab import state
from slipway_lab.state import Lab

OWN = "tests"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A healthy cluster."""
    if name := os.environ.get("SLIPWAY_LAB"):
        yield state.load(state.place_of(state.lab_home(os.environ), name))
    elif os.environ.get("KUBECONFIG"):
        yield lab_client.other_cluster()
    else:
        try:
            yield lab_client.started(OWN)
        finally:
            subprocess.run(lab_client.lab_command("down", f"--name={OWN}"), check=True, timeout=120)


@pytest.fixture(scope="session")
def own_lab(lab: Lab) -> Lab:
    """A lab of this machine, not any cluster: its processes can be killed, and it has a registry."""
    if not lab.namespace:
        pytest.skip("KUBECONFIG names a cluster that is not a lab")
    return lab


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of the cluster's, gone afterwards with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    lab_client.kubectl(lab, "create", "namespace", name)
    yield name
    lab_client.kubectl(lab, "delete", "namespace", name, "--wait=false")
