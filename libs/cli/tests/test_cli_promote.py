"""`slipway promote` and `slipway rollback`: the same digest goes on when its evidence says so, and back when told."""

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_commands import Said, Slipway
from gate_evidence import evidence_of
from gate_windows import Arms, changed, gate_plan
from registry_process import RegistryProcess, running
from trust_fakes import Keys

from slipway_bundle.store import Store
from slipway_signals.gate.evidence import Evidence, encode_evidence
from slipway_signals.gate.plan import Override

pytestmark = pytest.mark.needs("docker-registry")

OTHER = f"sha256:{'a' * 64}"
WIDE = {"latency.*": 3.0, "errors": 0.2, "slow": 0.2, "malformed": 0.2, "outputs.*": 0.4, "cpu": 3.0, "throughput": 3.0}

STACK = """\
# {environment}: what runs here
config:
  slipway-services:namespace: shop
  slipway-services:services:
    - name: churn   # the first
      image: {image} # by digest
      replicas: 2
"""


class World(NamedTuple):
    """A registry with two places, two stack files, and keys."""

    registry: RegistryProcess
    home: Path
    stacks: Path
    keys: Keys
    digest: str

    def text(self, environment: str) -> str:
        return (self.stacks / f"Pulumi.{environment}.yaml").read_text()

    def image(self, environment: str, digest: str) -> str:
        return f"{self.registry.host}/{environment}/churn@{digest}"

    def records(self) -> list[dict[str, str]]:
        path = self.stacks / "releases.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running(tmp_path_factory.mktemp("registry")) as process:
        yield process


@pytest.fixture
def world(registry: RegistryProcess, built_home: Path, home: Path, tmp_path: Path) -> World:
    """Churn is in dev's registry, and nothing of it in production's."""
    shutil.copytree(built_home, home, copy_function=shutil.copyfile)
    digest = Store.open(home / "store").find("churn").digest
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    (tmp_path / "keys").mkdir()
    made = World(registry, home, stacks, Keys(tmp_path / "keys"), digest)
    for environment, running_there in (("dev", digest), ("production", OTHER)):
        path = stacks / f"Pulumi.{environment}.yaml"
        path.write_text(STACK.format(environment=environment, image=made.image(environment, running_there)))
    shutil.rmtree(registry.folder / "data", ignore_errors=True)
    made.keys.make("ci")
    return made


@functools.cache
def passed(digest: str, *, fails: bool = False) -> Evidence:
    """What a short run writes about this bundle."""
    windows = Arms(3, failing=0.6 if fails else 0.0).windows(24)
    counts = [one.arms["candidate"].succeeded for one in windows]
    named = [
        changed([one], "candidate", digests={digest: count})[0] for one, count in zip(windows, counts, strict=True)
    ]
    margins = {name: Override(margin=size, reason="a short run") for name, size in WIDE.items()}
    plan = gate_plan(digests={"candidate": digest}, margins=margins, quantiles=(0.5,), at_least_s=2.0, block_s=1.0)
    return evidence_of(named, plan)


def attest(slipway: Slipway, world: World, evidence: Evidence, key: str = "ci") -> None:
    """Keep it beside the bundle, and push both."""
    path = world.home / "evidence.json"
    path.write_bytes(encode_evidence(evidence))
    attested = slipway("gate", "attest", "churn", path, "--key", world.keys.make(key))
    pushed = slipway("bundle", "push", "churn", f"{world.registry.host}/dev/churn", "--replace")
    assert (attested.status, pushed.status) == (0, 0), attested.err + pushed.err


def promote(slipway: Slipway, world: World, *more: str | Path) -> Said:
    """From dev to production, by what `ci` signed."""
    signer = () if "--policy" in more else ("--signer", world.keys.folder / "ci.pub")
    words = ("churn", "--from", "dev", "--to", "production", "--stacks", world.stacks, "--by", "ann", *signer)
    return slipway("promote", *words, *more)


def test_the_same_digest_goes_on_with_its_evidence(slipway: Slipway, world: World) -> None:
    """One value of the stack file, one line of the record, and all of the bundle in the other registry."""
    evidence = passed(world.digest)
    attest(slipway, world, evidence)
    before = world.text("production")

    said = promote(slipway, world)
    again = promote(slipway, world)

    image = world.image("production", world.digest)
    assert (said.status, said.out) == (0, f"{image}\n"), said.err
    (record,) = world.records()
    assert world.text("production") == before.replace(OTHER, world.digest)
    assert (record["kind"], record["image"], record["before"]) == ("promote", image, world.image("production", OTHER))
    assert (record["by"], record["origin"], record["signer"]) == ("ann", "dev", "ci")
    assert record["evidence"] in said.err
    assert (again.status, "unchanged" in again.err) == (0, True)
    pulled = slipway("bundle", "pull", image, "--json")
    assert pulled.document["referrers"] == 2


@pytest.mark.e2e
def test_a_dry_run_judges_and_changes_nothing(slipway: Slipway, world: World) -> None:
    attest(slipway, world, passed(world.digest))
    before = world.text("production")

    said = promote(slipway, world, "--dry-run")

    assert (said.status, said.out) == (0, f"{world.image('production', world.digest)}\n")
    assert "would replace" in said.err
    assert (world.text("production"), world.records()) == (before, [])
    assert slipway("registry", "list", f"{world.registry.host}/production/churn").status == 2


def refused(slipway: Slipway, world: World, *more: str | Path) -> str:
    """Why; the file and the record stayed what they were."""
    before = world.text("production")

    said = promote(slipway, world, *more)

    assert (said.status, said.out) == (1, ""), said.err
    assert (world.text("production"), world.records()) == (before, [])
    return said.err


def test_without_evidence_nothing_goes_on(slipway: Slipway, world: World) -> None:
    slipway("bundle", "push", "churn", f"{world.registry.host}/dev/churn")

    assert "no evidence that counts says that churn:" in refused(slipway, world)


@pytest.mark.e2e
def test_evidence_that_somebody_else_signed_does_not_count(slipway: Slipway, world: World) -> None:
    attest(slipway, world, passed(world.digest), key="stranger")

    assert "no evidence that counts" in refused(slipway, world)


def test_one_fail_is_not_outvoted(slipway: Slipway, world: World) -> None:
    attest(slipway, world, passed(world.digest, fails=True))
    attest(slipway, world, passed(world.digest))

    assert "the gate said fail about churn:" in refused(slipway, world)


@pytest.mark.e2e
def test_a_statement_without_its_evidence_does_not_count(slipway: Slipway, world: World) -> None:
    """The registry lost it, or somebody removed it: what is stated cannot be asked again."""
    attest(slipway, world, passed(world.digest))
    index = world.home / "store" / "index.json"
    document = json.loads(index.read_bytes())
    evidence = slipway("gate", "attest", "churn", world.home / "evidence.json").out.splitlines()[0]
    document["manifests"] = [one for one in document["manifests"] if one["digest"] != evidence]
    index.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))
    shutil.rmtree(world.registry.folder / "data")
    slipway("bundle", "push", "churn", f"{world.registry.host}/dev/churn")

    assert "is stated and not there" in refused(slipway, world)


@pytest.mark.e2e
def test_the_policy_is_asked_too(slipway: Slipway, world: World) -> None:
    """Evidence is signed by who counts; the bundle is signed by nobody."""
    attest(slipway, world, passed(world.digest))
    world.keys.policy('[signatures]\nby = ["ci"]\n', "ci")

    assert "by `signatures.by`" in refused(slipway, world, "--policy", world.keys.folder / "policy.toml")


def test_somebody_must_say_whose_evidence_counts(slipway: Slipway, world: World) -> None:
    words = ("churn", "--from", "dev", "--to", "production", "--stacks", world.stacks)
    (world.keys.folder / "policy.toml").write_text("")

    said = slipway("promote", *words, "--policy", world.keys.folder / "policy.toml")

    assert said.status == 2
    assert "nobody says whose evidence counts" in said.err


def test_rollback_writes_the_digest_before_and_a_line_of_its_own(slipway: Slipway, world: World) -> None:
    before = world.text("production").replace(OTHER, world.digest)
    (world.stacks / "Pulumi.production.yaml").write_text(before)
    promoted = {"kind": "promote", "service": "churn", "environment": "production", "by": "ann", "at": "2026-11-22"}
    promoted |= {"image": world.image("production", world.digest), "before": world.image("production", OTHER)}
    (world.stacks / "releases.jsonl").write_text(json.dumps(promoted) + "\n")

    said = slipway("rollback", "churn", "--env", "production", "--stacks", world.stacks, "--reason", "slow")

    record = world.records()[-1]
    assert (said.status, said.out) == (0, f"{world.image('production', OTHER)}\n"), said.err
    assert world.text("production") == before.replace(world.digest, OTHER)
    assert (record["kind"], record["reason"], record["before"]) == (
        "rollback",
        "slow",
        world.image("production", world.digest),
    )


def test_what_nobody_wrote_down_is_named_by_hand(slipway: Slipway, world: World) -> None:
    words = ("churn", "--env", "production", "--stacks", world.stacks)

    unknown = slipway("rollback", *words)
    named = slipway("rollback", *words, "--to", f"sha256:{'b' * 64}", "--dry-run")

    assert unknown.status == 2
    assert "nobody wrote down what 'churn' ran" in unknown.err
    assert (named.status, named.out) == (0, world.image("production", f"sha256:{'b' * 64}") + "\n")
    assert world.records() == []


def test_without_kubectl_the_cluster_is_not_changed_and_neither_is_the_file(
    slipway: Slipway, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.text("production")
    monkeypatch.setenv("PATH", "/nonexistent")

    said = slipway(
        "rollback", "churn", "--env", "production", "--stacks", world.stacks, "--to", f"sha256:{'b' * 64}", "--now"
    )

    assert said.status == 3
    assert "the program 'kubectl' is not installed" in said.err
    assert (world.text("production"), world.records()) == (before, [])
