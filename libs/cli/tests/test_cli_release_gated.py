"""`scripts/release.sh` through the gate, with a real registry: when it names what to deploy, and when it does not."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_commands import ROOT, settled
from image_fakes import make_base, make_wheels
from registry_process import RegistryProcess, running
from scan_samples import record
from trust_fakes import Keys

from slipway_bundle import Store
from slipway_bundle.attestations import read_statements
from slipway_bundle.digest import parse_digest
from slipway_signals.gate.attesting import PREDICATE

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.needs("docker-registry"),
    pytest.mark.timeout(400),
]

SLOW = """


@predict.compute
def slow(weights, batch):
    import time

    ends = time.perf_counter() + 0.05
    while time.perf_counter() < ends:
        pass
    return {"churn_probability": weights(batch)["probability"]}
"""
PLAN = """
quantiles = [0.5]
at_least_s = 5
block_s = 1
[load]
rate = 100
seconds = 40
warm_up_s = 3
[margins]
errors = {margin = 0.03, reason = "some seconds on a busy machine"}
slow = {margin = 0.2, reason = "some seconds on a busy machine"}
malformed = {margin = 0.03, reason = "some seconds on a busy machine"}
"latency.*" = {margin = 3.0, reason = "some seconds on a busy machine"}
"outputs.*" = {margin = 0.15, reason = "some seconds on a busy machine"}
[without]
cpu = "some seconds on a busy machine"
throughput = "some seconds on a busy machine"
[lines]
slow = 1.0
[limits]
slip_p99_s = 1.0
"""
"""What is released here is the same model, or one that is twenty times as slow: this is no test of margins."""


class Shop:
    """A repository in a registry, a key, an index of wheels, and versions of churn to release."""

    def __init__(self, root: Path, registry: RegistryProcess, churn: Path) -> None:
        self.root = root
        self.place = f"{registry.host}/team/churn"
        self._churn = churn
        self._lock = make_wheels(root / "index")
        self._environ = os.environ | {
            "SLIPWAY_HOME": str(root / "home"),
            "SLIPWAY_KEY": str(Keys(root).make("release")),
            "SLIPWAY_OSV": str(root / "osv.json"),
            "SLIPWAY_BASE": make_base(root / "base"),
            "SLIPWAY_EVIDENCE": str(root / "gate"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(root / "index"),
            "PIP_CONFIG_FILE": os.devnull,
        }
        (root / "osv.json").write_text(json.dumps(record(name="something-else")))

    def version(self, version: str, lines: str = "") -> Path:
        """A folder of churn with these lines at the end of its service."""
        folder = self.root / version
        shutil.copytree(self._churn, folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        (folder / "requirements.lock").write_text(self._lock)
        (folder / "gate.toml").write_text(PLAN)
        needed = 'dependencies = ["purepack", "nativepack", "winonly"]'
        _change(folder / "pyproject.toml", r"dependencies = \[.*?\n\]", needed)
        _change(folder / "slipway.toml", 'name = "churn"', f'name = "churn"\nversion = "{version}"')
        with (folder / "src" / "churn_service" / "service.py").open("a") as service:
            service.write(lines)
        return folder

    def release(self, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        """The script that release.yml runs, to its end."""
        return subprocess.run(
            ["sh", str(ROOT / "scripts" / "release.sh"), str(folder), self.place],
            env=self._environ | more,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def statements(self, deployed: str) -> list[dict[str, object]]:
        """What the registry has to say about a digest, asked by somebody who has nothing of it yet."""
        home = self.root / "deployer"
        command = [sys.executable, "-P", "-m", "slipway_cli", "bundle", "pull", deployed]
        environment = self._environ | {"SLIPWAY_HOME": str(home)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        digest = parse_digest(deployed.rpartition("@")[2])
        found = read_statements(Store.open(home / "store"), digest, PREDICATE)
        return [json.loads(one.statement)["predicate"] for one in found]


def _change(path: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, text, path.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    path.write_text(changed)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, churn: Path) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    with running(root / "registry") as registry:
        made = Shop(root, registry, churn)
        first = made.release(made.version("1.0.0"))
        assert first.returncode == 0, first.stderr
        assert "not compared with anything" in first.stderr
        yield made


def test_a_good_candidate_is_named_by_digest_with_its_evidence_in_the_registry(shop: Shop) -> None:
    folder = shop.version("1.0.1")

    said = settled(
        lambda: shop.release(folder, SLIPWAY_STABLE=f"{shop.place}:1.0.0"),
        lambda said: "inconclusive\n" in said.stderr,
    )

    assert said.returncode == 0, said.stderr
    assert re.fullmatch(rf"{re.escape(shop.place)}@sha256:[0-9a-f]{{64}}\n", said.stdout)
    (statement,) = [one for one in shop.statements(said.stdout.strip()) if one["verdict"] != "inconclusive"]
    evidence = json.loads((shop.root / "gate" / "evidence.json").read_bytes())["evidence"]
    assert statement["verdict"] == evidence["decision"]["verdict"] == "pass"
    assert statement["stable"] == evidence["plan"]["digests"]["stable"]
    assert evidence["plan"]["digests"]["candidate"] == said.stdout.strip().rpartition("@")[2]
    assert (shop.root / "gate" / "evidence.html").exists()


def test_a_slow_candidate_is_not_named_and_its_evidence_says_why(shop: Shop) -> None:
    said = shop.release(shop.version("1.0.2", SLOW), SLIPWAY_STABLE=f"{shop.place}:1.0.0")

    decision = json.loads((shop.root / "gate" / "evidence.json").read_bytes())["evidence"]["decision"]
    assert (said.returncode, said.stdout) == (1, ""), said.stderr
    assert decision["verdict"] == "fail"
    assert "pushing the evidence" not in said.stderr
