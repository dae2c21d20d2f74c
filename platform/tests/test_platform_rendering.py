"""Programs without Pulumi's engine: the same objects as the engine would send, or a sentence why not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from service_stacks import REFERENCES, rendered

from slipway_platform.rendering import RenderingError, render
from slipway_platform.settings import SettingsError

PROGRAM = """
import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap, Secret
from slipway_platform.settings import load_settings

later = ConfigMap("later", metadata={"name": "second"}, data={"a": "1"}, opts=pulumi.ResourceOptions(depends_on=[
    Secret("first", metadata={"name": "first"}, string_data={"key": pulumi.Output.secret("s3cret")})]))
pulumi.export("answer", 42)
"""


def project(folder: Path, program: str, config: str = "config: {}") -> Path:
    """A platform folder with one project, `one`, and one stack, `test`."""
    here = folder / "one"
    here.mkdir()
    (here / "Pulumi.yaml").write_text("name: slipway-one\nruntime: python\n")
    (here / "Pulumi.test.yaml").write_text(config)
    (here / "__main__.py").write_text(program)
    return folder


def test_objects_come_in_the_order_of_what_they_depend_on(tmp_path: Path) -> None:
    found = render("one", "test", platform=project(tmp_path, PROGRAM))

    assert [one["metadata"]["name"] for one in found.bodies] == ["first", "second"]
    assert found.outputs == {"answer": 42}


def test_a_secret_is_open_in_what_is_applied(tmp_path: Path) -> None:
    found = render("one", "test", platform=project(tmp_path, PROGRAM))

    assert found.bodies[0]["stringData"] == {"key": "s3cret"}


def test_whole_numbers_are_whole() -> None:
    (rollout,) = [one for one in rendered("lab").bodies if one["kind"] == "Rollout"]

    found = rollout["spec"]["progressDeadlineSeconds"]

    assert (found, type(found)) == (75, int)


def test_two_runs_give_the_same_bytes() -> None:
    again = render("services", "lab", references=REFERENCES)

    assert yaml.safe_dump_all(again.bodies) == yaml.safe_dump_all(rendered("lab").bodies)
    assert [list(one) for one in again.bodies] == [list(one) for one in rendered("lab").bodies]


def test_what_is_no_object_of_kubernetes_is_said() -> None:
    assert rendered("lab").left_out == ("pulumi:providers:kubernetes cluster",)


def test_a_stack_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(RenderingError) as refused:
        render("services", "nowhere", references=REFERENCES)

    assert refused.value.hint == "there are example, lab"


def test_what_a_program_refuses_reaches_who_asked(tmp_path: Path) -> None:
    program = (
        "import msgspec\nfrom slipway_platform.settings import load_settings\n"
        "load_settings(msgspec.defstruct('S', []), 'slipway-one')\n"
    )

    with pytest.raises(SettingsError, match="slipway-one:typo is no setting"):
        render("one", "test", platform=project(tmp_path, program, "config: {slipway-one:typo: 1}"))


def test_a_sealed_secret_is_not_needed_to_render(tmp_path: Path) -> None:
    program = "import pulumi\npulumi.export('key', pulumi.Config('slipway-one').require_secret('key'))\n"
    config = "config: {'slipway-one:key': {secure: v1:abc}}"

    found = render("one", "test", platform=project(tmp_path, program, config))

    assert found.outputs == {"key": "(sealed)"}


@pytest.mark.e2e
def test_the_command_prints_yaml_and_says_what_it_left_out(tmp_path: Path) -> None:
    (tmp_path / "references.json").write_text(json.dumps(REFERENCES))

    done = subprocess.run(
        [sys.executable, "-m", "slipway_platform.rendering", "observability", "lab", "--references", "references.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
    assert kinds.count("ConfigMap") == 6
    assert done.stderr == "not rendered: pulumi:providers:kubernetes cluster\n"


@pytest.mark.e2e
@pytest.mark.needs("go")
@pytest.mark.parametrize(
    ("name", "stack"), [("services", "lab"), ("services", "example"), ("observability", "example")]
)
def test_every_supported_kubernetes_takes_what_is_rendered(tmp_path: Path, name: str, stack: str) -> None:
    """kubeconform, strictly, on the schemas of three versions and of every CRD."""
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(rendered(stack, name).bodies))

    done = subprocess.run(
        [sys.executable, "-m", "slipway_lab", "conform", str(file)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
