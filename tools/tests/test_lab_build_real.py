"""The real Go builds, and the real kubeconform judges; half a minute when the caches are warm."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from slipway_lab.build import BuildError, binary
from slipway_lab.conform import conform
from slipway_lab.crds import SOURCES, crd_files
from slipway_lab.errors import CannotRunError
from slipway_lab.schemas import VERSIONS
from slipway_lab.workshop import Workshop, find_workshop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROLLOUT = """
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: churn, labels: {app: churn}}
spec:
  replicas: 2
  selector: {matchLabels: {app: churn}}
  strategy: {canary: {steps: [{setWeight: 10}, {pause: {duration: 10s}}]}}
  template:
    metadata: {labels: {app: churn}}
    spec:
      containers:
      - name: churn
        image: registry/churn@sha256:0000
        resources: {limits: {cpu: 1, memory: 1Gi}}
---
apiVersion: v1
kind: Service
metadata: {name: churn}
spec: {selector: {app: churn}, ports: [{port: 80, targetPort: http}]}
"""


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    """The workshop of this machine; the test skips where there is no Go."""
    try:
        return find_workshop()
    except CannotRunError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pauses(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The same program, compiled twice from nothing."""
    folders = [tmp_path_factory.mktemp("cache") for _ in range(2)]
    return [binary("pause", workshop=msgspec.structs.replace(workshop, cache=each)).read_bytes() for each in folders]


def test_the_real_go_builds_a_static_program_that_runs(pauses: list[bytes], tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(pauses[0])
    program.chmod(0o755)

    process = subprocess.Popen([program])
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) in {0, -signal.SIGTERM}, "it may be told to end before it listens"
    assert b"/ld-linux" not in pauses[0], "a static program names no loader"


def test_the_same_source_gives_the_same_program_anywhere(workshop: Workshop, pauses: list[bytes]) -> None:
    assert pauses[0] == pauses[1]
    assert str(workshop.tools).encode() not in pauses[0]


def test_the_real_go_refuses_a_module_without_a_sum(workshop: Workshop, tmp_path: Path) -> None:
    source = tmp_path / "tools" / "lint"
    source.mkdir(parents=True)
    (source / "go.mod").write_text((workshop.tools / "lint" / "go.mod").read_text())
    (source / "go.sum").write_text("")

    with pytest.raises(BuildError, match=r"missing go\.sum entry"):
        binary("kubeconform", workshop=msgspec.structs.replace(workshop, tools=source.parent, cache=tmp_path / "cache"))

    assert list((tmp_path / "cache" / "programs").iterdir()) == []


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_add_on_has_its_crds(workshop: Workshop, name: str) -> None:
    files = crd_files([name], workshop=workshop)

    assert len(files) >= 5
    assert all(b"kind: CustomResourceDefinition" in path.read_bytes() for path in files)


def test_good_manifests_are_taken_by_every_version(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(ROLLOUT)
    crds = crd_files(workshop=workshop)

    report = conform([tmp_path, *crds], workshop=workshop)

    assert report.findings == ()
    assert report.objects >= 2 + len(crds)
    assert report.kubernetes == VERSIONS
    assert [version.rpartition(".")[0] for version in VERSIONS] == ["v1.34", "v1.35", "v1.36"]


def test_every_mistake_is_found_where_it_is(workshop: Workshop, tmp_path: Path) -> None:
    text = ROLLOUT.replace("setWeight", "setWeigt").replace("app: churn}, ports", "app: on}, ports")
    (tmp_path / "churn.yaml").write_text(text + "---\napiVersion: slipway.dev/v1\nkind: Nothing\nmetadata: {name: a}\n")

    report = conform([tmp_path], workshop=workshop)

    assert [(finding.kind, finding.problem) for finding in report.findings] == [
        ("Nothing", "could not find schema for Nothing"),
        ("Rollout", "at '/spec/strategy/canary/steps/0': additional properties 'setWeigt' not allowed"),
        ("Service", "at '/spec/selector/app': got boolean, want string"),
    ]
    assert {finding.kubernetes for finding in report.findings} == {VERSIONS}


def test_the_verb_tells_and_its_exit_status_says_no(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(ROLLOUT)
    bad.write_text(ROLLOUT.replace("replicas", "replica"))

    answers = {
        path: subprocess.run(
            [sys.executable, "-m", "slipway_cli", "--json", "lab", "conform", path],
            capture_output=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
            timeout=600,
            check=False,
        )
        for path in (good, bad)
    }

    assert [answers[good].returncode, answers[bad].returncode] == [0, 1]
    assert json.loads(answers[good].stdout)["findings"] == []
    (finding,) = json.loads(answers[bad].stdout)["findings"]
    assert finding["problem"] == "at '/spec': additional properties 'replica' not allowed"
