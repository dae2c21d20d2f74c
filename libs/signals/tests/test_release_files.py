"""Stack files and the record beside them: one value changes, and what was before is known."""

from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from slipway_bundle.digest import Digest
from slipway_bundle.errors import ConfigError, UsageError
from slipway_signals.release.records import RECORDS, Release, add_release, load_releases, previous_image
from slipway_signals.release.stack_files import ServiceImage, load_stack

SHIPPED = Path(__file__).parents[3] / "platform" / "services"
OLD, NEW = Digest(f"sha256:{'1' * 64}"), Digest(f"sha256:{'2' * 64}")

STACK = f"""\
# production: ask before you change it
config:
  slipway-services:cluster: organization/slipway-cluster/production
  slipway-services:namespace: shop   # the team's
  slipway-services:services:
    - name: documents
      image: "registry.example.com/documents@{OLD}"  # quoted, and the same digest
    - image: registry.example.com:5000/team/churn@{OLD} # first of two keys
      name: churn
      canary: {{plan: gate.toml, stages: [{{weight: 10, bake: 24h}}]}}

    - {{name: flow, image: 'registry.example.com/flow@{OLD}', replicas: 2}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.production.yaml").write_text(STACK)
    return tmp_path


@pytest.mark.parametrize("service", ["documents", "churn", "flow"])
def test_one_digest_changes_and_every_other_byte_stays(folder: Path, service: str) -> None:
    """Comments, order, quotes, flow style and an empty line."""
    stack = load_stack(folder, "production")
    before = stack.image(service)

    stack.write(stack.with_image(service, replace(before, digest=NEW)))

    written = (folder / "Pulumi.production.yaml").read_text()
    assert before.digest == OLD
    assert written == STACK.replace(before.text, f"{before.place}@{NEW}")
    assert written.count(NEW) == 1
    assert load_stack(folder, "production").image(service).digest == NEW
    assert stack.namespace == "shop"


@pytest.mark.parametrize("environment", ["lab", "example"])
def test_of_the_stack_files_that_are_shipped_one_line_changes(tmp_path: Path, environment: str) -> None:
    shipped = load_stack(SHIPPED, environment)
    path = tmp_path / shipped.path.name
    services = [one["name"] for one in yaml.safe_load(shipped.text)["config"]["slipway-services:services"]]

    for service in services:
        path.write_text(shipped.text)
        stack = load_stack(tmp_path, environment)
        stack.write(stack.with_image(service, replace(stack.image(service), digest=NEW)))

        pairs = zip(shipped.text.splitlines(), path.read_text().splitlines(), strict=True)
        ((before, after),) = [(old, new) for old, new in pairs if old != new]
        assert after == before.replace(shipped.image(service).digest, NEW)
    assert "churn" in services


def test_a_service_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"'chrun' is not in .* expected one of documents, churn, flow"):
        load_stack(folder, "production").image("chrun")


def test_an_image_by_tag_is_refused(folder: Path) -> None:
    path = folder / "Pulumi.production.yaml"
    path.write_text(STACK.replace(f"churn@{OLD}", "churn:stable"))

    with pytest.raises(ConfigError, match=r"names no digest: got 'registry\.example\.com:5000/team/churn:stable'"):
        load_stack(folder, "production").image("churn")


def test_a_value_that_two_services_share_is_not_changed_for_one(folder: Path) -> None:
    """An anchor: what is changed there changes elsewhere too."""
    path = folder / "Pulumi.production.yaml"
    text = STACK.replace(f"image: registry.example.com:5000/team/churn@{OLD}", "image: *same")
    path.write_text(text.replace(f'image: "registry.example.com/documents@{OLD}"', f'image: &same "r.io/d@{OLD}"'))
    stack = load_stack(folder, "production")

    with pytest.raises(ConfigError, match="cannot be changed without changing more"):
        stack.with_image("churn", ServiceImage(place="r.io/d", digest=NEW))

    assert load_stack(folder, "production").text == stack.text


@pytest.mark.parametrize(
    ("environment", "match"),
    [("staging", "expected one of production"), ("../production", "is no environment"), ("", "is no environment")],
)
def test_an_environment_that_is_not_there_is_wrong_usage(folder: Path, environment: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        load_stack(folder, environment)


def release(kind: str, image: str, before: str, environment: str = "production") -> Release:
    return Release(
        kind=kind,  # type: ignore[arg-type]  # one of two
        service="churn",
        environment=environment,
        image=image,
        before=before,
        at="2026-11-22T10:00:00Z",
        by="ann",
    )


def test_going_back_twice_goes_back_twice(tmp_path: Path) -> None:
    for one in (
        release("promote", "b", "a"),
        release("promote", "x", "c", "staging"),
        release("promote", "c", "b"),
        release("rollback", "b", "c"),
    ):
        add_release(tmp_path, one)

    releases = load_releases(tmp_path)

    assert [previous_image(releases, "churn", "production", image) for image in ("c", "b", "a")] == ["b", "a", None]
    assert previous_image(releases, "churn", "staging", "c") is None


def test_a_line_of_a_newer_slipway_is_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    add_release(tmp_path, release("promote", "b", "a"))
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes().replace(b'{"kind"', b'{"later":1,"kind"'))
    assert load_releases(tmp_path)[0].image == "b"
    path.write_bytes(path.read_bytes() + b"{}\n")

    with pytest.raises(ConfigError, match="line 2 of"):
        load_releases(tmp_path)
