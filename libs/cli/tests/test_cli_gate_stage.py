"""`slipway gate stage` as the Job of a rollout runs it: real servers, registry and verdict service, real load.

The servers are what a pod runs: the root of an image, which knows its digest only because it was told.
"""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cli_commands import ROOT, Slipway, settled
from gate_arms import ArmServer, arm_server
from gate_evidence import SUBJECT
from registry_process import running
from verdicts_process import QUERY, verdicts

from slipway_bundle import ConfigError, Store
from slipway_bundle.stored import read_bundle
from slipway_bundle.unpacked import ATTACHMENTS, MANIFEST
from slipway_cli import gate_stage
from slipway_serve.config import load_runtime

STEP = ("--rollout", SUBJECT.rollout, "--pod-hash", SUBJECT.pod_hash, "--stage", SUBJECT.stage)
NOBODY = f"localhost:1/churn@sha256:{'a' * 64}"

PLAN = """
quantiles = [0.5]
at_least_s = 3.0
block_s = 1.0
margins."latency.*" = {margin = 3.0, reason = "a shared machine"}
margins.errors = {margin = 0.1, reason = "a short run"}
margins.slow = {margin = 0.2, reason = "a shared machine"}
margins.malformed = {margin = 0.1, reason = "a short run"}
margins."outputs.*" = {margin = 0.2, reason = "a short run"}
margins.throughput = {margin = 3.0, reason = "a shared machine"}
margins.cpu = {margin = 3.0, reason = "a shared machine"}
lines = {slow = 1.0, errors = 0.5}
limits = {slip_p99_s = 1.0, slip_share = 5.0, ratio_p = 1e-6}

[load]
rate = 60.0
seconds = 60.0
warm_up_s = 2.0
"""
"""Wide margins: these tests are about what is done, not about how fine it is."""


def test_a_key_that_cannot_be_read_costs_no_load(slipway: Slipway, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    arms = ("--stable", "http://127.0.0.1:1", "--candidate", "http://127.0.0.1:1", "--candidate-bundle", NOBODY)

    said = slipway("gate", "stage", *STEP, *arms, "--to", "https://127.0.0.1:1", "--ca", ca)

    assert said.status == 3
    assert "the CA file" in said.err


def test_a_stage_needs_all_of_its_name(slipway: Slipway) -> None:
    arms = ("--stable", "http://127.0.0.1:1", "--candidate", "http://127.0.0.1:1", "--candidate-bundle", NOBODY)

    said = slipway("gate", "stage", *STEP[:4], "--stage", "", *arms, "--to", "http://127.0.0.1:1")

    assert said.status == 2
    assert "go together" in said.err


def test_a_service_is_waited_for_a_minute_and_less_when_the_pod_must_go() -> None:
    """Of the 30 seconds that a pod has, the load process may take 10."""
    assert sum(gate_stage.PAUSES_S) == 60.0
    assert sum(gate_stage.HURRIED_S) < 20.0


def test_a_running_image_is_told_its_digest_or_is_told_nothing() -> None:
    """What is no digest would be believed by nobody: the server does not start with it."""
    told, _ = load_runtime({}, {"SLIPWAY_BUNDLE": f"sha256:{'a' * 64}"}, {})

    assert told.server.bundle == f"sha256:{'a' * 64}"
    assert load_runtime({}, {}, {})[0].server.bundle is None
    with pytest.raises(ConfigError, match="bundle"):
        load_runtime({}, {"SLIPWAY_BUNDLE": "churn:1.0.0"}, {})


class Release(NamedTuple):
    """Two versions in a registry, both running, and the service that is told."""

    folder: Path
    candidate: ArmServer
    ref: str
    flags: tuple[str, ...]
    """Of `slipway gate stage`."""
    service: httpx.Client


def image_root(store: Store, ref: str, folder: Path) -> Path:
    """What the root of a running image holds, without its environment."""
    bundle = read_bundle(store, ref)
    for layer in (*bundle.children["model"][0].layers, bundle.layers()[bundle.manifest.service.layer]):
        with tarfile.open(store.blob(layer.digest)) as archive:
            archive.extractall(folder, filter="data")
    (folder / ATTACHMENTS).mkdir(parents=True)
    for item in bundle.manifest.attachments:
        (folder / ATTACHMENTS / item.name).write_bytes(bundle.attachment(store, item.name))
    (folder / MANIFEST).write_bytes(store.read(bundle.children["manifest"][0].config.digest))
    return folder


@pytest.fixture(scope="module")
def release(churn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Version 1.0.0 as stable, 1.0.1 as the candidate."""
    folder = tmp_path_factory.mktemp("release")
    environment = os.environ | {"SLIPWAY_HOME": str(folder / "home")}

    def slipway(*arguments: str | Path) -> str:
        command = [sys.executable, "-P", "-m", "slipway_cli", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=120
        ).stdout.strip()

    refs, servers = [], []
    (folder / "gate.toml").write_text(PLAN)
    writer = slipway("access", "key", "new", "job", "--keys", folder / "keys.json", "--scope", "verdicts:write")
    (folder / "write").write_text(writer)
    with ExitStack() as opened:
        registry = opened.enter_context(running(folder / "registry"))
        for arm, version in (("stable", "1.0.0"), ("candidate", "1.0.1")):
            service = folder / version
            shutil.copytree(churn, service, ignore=shutil.ignore_patterns("__pycache__", "tests"))
            shutil.copy(ROOT / "requirements.lock", service)
            settings = (service / "slipway.toml").read_text()
            named = settings.replace('name = "churn"', f'name = "churn"\nversion = "{version}"', 1)
            (service / "slipway.toml").write_text(named)
            slipway("bundle", "build", service)
            refs.append(slipway("bundle", "push", f"churn:{version}", f"{registry.host}/churn"))
            root = image_root(Store.open(folder / "home" / "store"), f"churn:{version}", folder / f"root-{arm}")
            told = ("env", f"SLIPWAY_BUNDLE={refs[-1].partition('@')[2]}", sys.executable, "-P", "-m", "slipway_cli")
            servers.append(opened.enter_context(arm_server(arm, told, str(root), folder)))
        client, _ = opened.enter_context(verdicts(folder, "--keys", folder / "keys.json", key=writer))
        flags = [*STEP, *servers[0].flags, *servers[1].flags, "--candidate-bundle", refs[1], "--stable-bundle", refs[0]]
        flags += ["--plan", str(folder / "gate.toml"), "--key-file", str(folder / "write")]
        yield Release(folder, servers[1], refs[1], tuple(flags), client)


def job(release: Release, *more: str) -> "subprocess.Popen[str]":
    """The Job's process, which may write in one folder alone; nothing of slipway is at home there."""
    command = [sys.executable, "-P", "-m", "slipway_cli", "gate", "stage", *release.flags, "--verbose", *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "XDG_"))}
    environment |= {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    work = release.folder / "work"
    return subprocess.Popen(
        [*command, "--work", str(work)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def first_window(process: "subprocess.Popen[str]") -> str:
    """Wait until the gate has looked once."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "metrics are settled" in line:
            return said
    raise AssertionError(said)


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.needs("docker-registry")
@pytest.mark.timeout(200)
def test_smoke_asks_a_real_candidate_for_all_it_has(slipway: Slipway, release: Release) -> None:
    """Its interface, its examples, who it is, its metrics."""
    both = ("--candidate", release.candidate.url, "--candidate-admin", release.candidate.admin)

    said = slipway("gate", "smoke", *both, "--candidate-bundle", release.ref, "--json")

    assert said.status == 0, said.out
    assert {one["name"]: one["status"] for one in said.document["probes"]} == dict.fromkeys(
        ("interface", "golden", "identity", "metrics"), "ok"
    )


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.needs("docker-registry")
@pytest.mark.timeout(500)
def test_a_good_candidate_passes_and_the_service_knows_it(release: Release) -> None:
    def run() -> tuple[int, str, str]:
        with job(release, "--to", str(release.service.base_url)) as process:
            out, err = process.communicate(timeout=150)
        return process.returncode, out, err

    status, out, err = settled(run, lambda ended: ended[1] == "inconclusive\n")

    answer = release.service.get("/verdict", params=QUERY).json()
    assert (status, out) == (0, "pass\n"), err
    assert answer["verdict"] == "pass"
    assert list((release.folder / "work").iterdir()) == []


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.needs("docker-registry")
@pytest.mark.timeout(200)
def test_a_job_whose_time_is_over_posts_what_it_has(release: Release) -> None:
    """SIGTERM in the middle of the load: inconclusive evidence, well within the grace time of a pod."""
    flags = ("--rate", "10", "--anyway", "--stage", "30", "--to", str(release.service.base_url))
    with job(release, *flags) as process:
        first_window(process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        took_s = time.monotonic() - began

    answer = release.service.get("/verdict", params=QUERY | {"stage": "30"}).json()
    assert (process.returncode, out) == (0, "inconclusive\n"), err
    assert "whoever started the run ended it" in err
    assert answer["verdict"] == "inconclusive"
    assert answer["runs"] == 1
    assert took_s < 15.0


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.needs("docker-registry")
@pytest.mark.timeout(200)
def test_a_service_that_is_away_for_a_moment_gets_the_evidence(release: Release, tmp_path: Path) -> None:
    """It comes back on the same address while the Job tries again."""
    keys = release.folder / "keys.json"
    key = (release.folder / "write").read_text()
    with verdicts(tmp_path, "--keys", keys, key=key) as (client, service):
        port = str(client.base_url.port)
        service.send_signal(signal.SIGTERM)
        service.wait(20)
    flags = ("--rate", "10", "--seconds", "8", "--anyway", "--stage", "50", "--to", f"http://127.0.0.1:{port}")
    with job(release, *flags) as process:
        first_window(process)
        said = iter(process.stderr or ())
        assert any("requests" in line or "seconds" in line for line in said)  # the load is over, and nobody is there
        threading.Event().wait(1.5)
        with verdicts(tmp_path, "--keys", keys, "--port", port, key=key) as (client, _):
            out, err = process.communicate(timeout=90)
            answer = client.get("/verdict", params=QUERY | {"stage": "50"}).json()

    assert (process.returncode, out) == (0, "inconclusive\n"), err
    assert answer["runs"] == 1


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.needs("docker-registry")
@pytest.mark.timeout(200)
def test_a_candidate_that_is_another_bundle_is_no_pass(release: Release, slipway: Slipway) -> None:
    """The pods were not changed: stable answers under the candidate's address."""
    flags = list(release.flags)
    flags[flags.index("--candidate") + 1] = flags[flags.index("--stable") + 1]
    wrong = release._replace(flags=tuple(flags))
    with job(
        wrong, "--rate", "10", "--seconds", "8", "--anyway", "--stage", "100", "--to", str(release.service.base_url)
    ) as process:
        out, err = process.communicate(timeout=120)

    answer = release.service.get("/verdict", params=QUERY | {"stage": "100"}).json()
    assert (process.returncode, out) != (0, "pass\n")
    assert answer["verdict"] != "pass"
    assert "expected sha256:" in err
