"""Environments for the tests of `platform/services`, and what their programs make."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from slipway_platform.rendering import Rendered, render
from slipway_platform.services import PROJECT
from slipway_platform.services.settings import ServicesSettings
from slipway_platform.settings import convert_settings

ROOT = Path(__file__).parents[2]
IMAGE = f"registry.example.com/churn@sha256:{'ab' * 32}"
TOOLS = f"registry.example.com/slipway-platform@sha256:{'cd' * 32}"
PRODUCTION = {
    "kind": "eks",
    "name": "production",
    "registry": "registry.example.com",
    "gpu_resource": "nvidia.com/gpu",
    "gpu_node_label": {"slipway.dev/pool": "gpu"},
    "gpu_toleration": {"key": "nvidia.com/gpu"},
    "gateway_api": True,
}
REFERENCES: dict[str, Mapping[str, object]] = {
    f"organization/slipway-cluster/{name}": {"info": info, "kubeconfig": "a kubeconfig"}
    for name, info in (
        ("lab", {"kind": "lab", "name": "lab", "registry": "10.230.0.1:5000"}),
        ("production", PRODUCTION),
    )
}

Objects = dict[tuple[str, str], dict[str, Any]]


def churn(**fields: object) -> dict[str, object]:
    """The entry of a service, with only what must be there."""
    return {"name": "churn", "image": IMAGE, **fields}


def stack(*services: Mapping[str, object], **fields: object) -> dict[str, object]:
    """The keys of a stack, without their namespace."""
    usual = {"cluster": "organization/slipway-cluster/lab", "namespace": "shop", "platform_image": TOOLS}
    return {**usual, "services": list(services or [churn()]), **fields}


def config(*services: Mapping[str, object], **fields: object) -> dict[str, object]:
    """The same as `run_project` wants it."""
    return {f"{PROJECT}:{key}": value for key, value in stack(*services, **fields).items()}


def settings(*services: Mapping[str, object], **fields: object) -> ServicesSettings:
    """The same, decoded."""
    return convert_settings(ServicesSettings, PROJECT, stack(*services, **fields), frozenset())


@cache
def rendered(name: str, project: str = "services") -> Rendered:
    """What the program makes of a committed stack file."""
    return render(project, name, references=REFERENCES)


@cache
def objects(name: str, project: str = "services") -> Objects:
    """The same by kind and name."""
    return {(one["kind"], one["metadata"]["name"]): one for one in rendered(name, project).bodies}


def steps(name: str = "lab") -> list[dict[str, Any]]:
    """Of churn's canary."""
    found: list[dict[str, Any]] = objects(name)["Rollout", "churn"]["spec"]["strategy"]["canary"]["steps"]
    return found


def metrics(name: str = "lab") -> dict[str, dict[str, Any]]:
    """Every metric of churn's templates, as TEMPLATE/METRIC."""
    return {
        f"{one['metadata']['name'].removeprefix('churn-')}/{metric['name']}": metric
        for (kind, _), one in objects(name).items()
        if kind == "AnalysisTemplate" and one["metadata"]["name"].startswith("churn-")
        for metric in one["spec"]["metrics"]
    }
