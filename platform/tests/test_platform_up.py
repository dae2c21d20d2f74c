"""The real `pulumi up`, through the automation API: where the CLI, the plugin of Kubernetes and a cluster are there.

Everywhere else it is skipped, and says what is missing. It makes a namespace of its own in the cluster of KUBECONFIG.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from platform_runs import PLATFORM

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A state and a home of its own; nothing of the user's Pulumi is used but its plugins."""
    missing = _missing()
    if missing is not None:
        pytest.skip(missing)
    (tmp_path / "state").mkdir()
    return {
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }


def test_up_twice_refresh_and_destroy(tmp_path: Path, environment: dict[str, str]) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster = _stack(
        tmp_path,
        "cluster",
        environment,
        {
            "name": "test",
            "provider": "existing",
            "registry": "r",
            "existing": {"kubeconfig_path": os.environ["KUBECONFIG"]},
        },
    )
    addons = _stack(
        tmp_path,
        "addons",
        environment,
        {"cluster": "organization/slipway-cluster/test", "mode": "external", "namespaces": {name: {"owner": "test"}}},
    )
    cluster.up()
    assert cluster.outputs()["kubeconfig"].secret

    try:
        first = addons.up().summary.resource_changes or {}
        second = addons.up().summary.resource_changes or {}
        fresh = addons.refresh().summary.resource_changes or {}
        exported = json.dumps(addons.export_stack().deployment)
    finally:
        _command(addons, environment, "state", "unprotect", "--all", "--yes")
        addons.destroy()

    assert first.get("create", 0) > 5
    assert set(second) == {"same"}, second
    assert not set(fresh) & {"update", "delete", "replace"}, fresh
    assert "client-key-data" not in exported
    assert addons.info().result == "succeeded"


def _stack(folder: Path, project: str, environment: dict[str, str], config: dict[str, Any]) -> Any:
    """The project's own program and `Pulumi.yaml`, with a stack file of the test's."""
    from pulumi import automation

    place = folder / project
    shutil.copytree(PLATFORM / project, place)
    described = yaml.safe_load((place / "Pulumi.yaml").read_text())
    described["runtime"]["options"]["virtualenv"] = str(Path(sys.prefix))
    (place / "Pulumi.yaml").write_text(yaml.safe_dump(described))
    values = {f"slipway-{project}:{key}": value for key, value in config.items()}
    (place / "Pulumi.test.yaml").write_text(yaml.safe_dump({"config": values}))
    options = automation.LocalWorkspaceOptions(env_vars=environment)
    return automation.create_or_select_stack(stack_name="test", work_dir=str(place), opts=options)


def _command(stack: Any, environment: dict[str, str], *arguments: str) -> None:
    command = ["pulumi", *arguments, "--stack", stack.name, "--cwd", stack.workspace.work_dir]
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=60)


def _missing() -> str | None:
    """What is not there; None where everything is."""
    if shutil.which("pulumi") is None:
        return "the Pulumi CLI is not installed (https://www.pulumi.com/docs/iac/download-install/)"
    listed = subprocess.run(["pulumi", "plugin", "ls", "--json"], capture_output=True, check=False, timeout=60)
    names = {plugin["name"] for plugin in json.loads(listed.stdout or b"[]")}
    if "kubernetes" not in names and shutil.which("pulumi-resource-kubernetes") is None:
        return "the plugin of Kubernetes is not installed (`pulumi plugin install resource kubernetes v4.34.2`)"
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster; `slipway lab up` starts one"
    return None
