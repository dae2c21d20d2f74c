"""The gate where releases are decided: a slower change is refused, an equal one is released with its evidence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import ROOT, Slipway, served, settled
from demo_gate import CANDIDATES, PLAN, judge_candidates
from demo_screen import Teller

from slipway_bundle import Store
from slipway_bundle.attestations import read_statements
from slipway_bundle.digest import parse_digest
from slipway_signals.gate.attesting import PREDICATE

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(300)]

SLOWER = """


@predict.compute
def slower(weights, batch):
    import time

    ends = time.perf_counter() + {seconds}
    while time.perf_counter() < ends:
        pass
    return {{"churn_probability": weights(batch)["probability"]}}
"""

BUSY = {"stable_breached", "generator_slip", "generator_cpu", "cpu_contended"}
"""What the gate says where there is no processor time for two versions and their load."""


def script(name: str, *arguments: str | Path, home: Path) -> "subprocess.CompletedProcess[str]":
    """A script of the repository, to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)],
        env=os.environ | {"SLIPWAY_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def median_s(built_home: Path) -> float:
    """How long churn takes to answer, as the load process counts it, at the rate of its gate.toml."""
    flags = ["--rate", "400", "--seconds", "6", "--warm-up-s", "2", "--json"]
    with served("churn", home=built_home) as url:
        command = [sys.executable, "-P", "-m", "slipway_cli", "load", "run", "--url", url, *flags]
        said = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return float(json.loads(said.stdout)["arms"]["stable"]["latency_s"]["p50"])


def test_a_change_that_slows_churn_by_a_fifth_is_refused(built_home: Path, churn: Path, tmp_path: Path) -> None:
    """What `make gate` runs in ci.yml, on a clone of this repository with a slower service in it."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(clone)], check=True, timeout=60)
    shutil.copytree(churn, clone / "services" / "churn", dirs_exist_ok=True)
    base = ["git", "-C", str(clone), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*base, "add", "--force", "services/churn"], check=True)
    subprocess.run([*base, "commit", "--quiet", "--allow-empty", "-m", "before"], check=True)
    unchanged = script("gate_change.py", "--root", clone, "--base", "HEAD", home=tmp_path)
    with (clone / "services/churn/src/churn_service/service.py").open("a") as service:
        service.write(SLOWER.format(seconds=0.2 * median_s(built_home)))

    cli = Path(sys.executable).with_name("slipway")
    said = script(
        "gate_change.py",
        "--root",
        clone,
        "--base",
        "HEAD",
        "--base-cli",
        cli,
        "--out",
        tmp_path / "gate",
        home=tmp_path,
    )

    decision = json.loads((tmp_path / "gate" / "evidence.json").read_bytes())["decision"]
    assert unchanged.returncode == 0
    assert "nothing that services/churn is made of has changed" in unchanged.stderr
    assert said.returncode == 1, said.stderr
    assert decision["verdict"] != "pass"
    if busy := [one["text"] for one in decision["findings"] if one["code"] in BUSY]:
        pytest.skip(f"refused, but without a verdict, as this machine is busy: {busy[0]}")
    assert said.stdout.startswith("fail\n")
    assert {one["metric"] for one in decision["metrics"] if one["verdict"] == "fail"} & {"latency.p50", "latency.p95"}
    assert (tmp_path / "gate" / "evidence.html").exists()


def test_an_equal_candidate_passes_and_the_evidence_stays_with_it(
    slipway: Slipway, home: Path, churn: Path, tmp_path: Path
) -> None:
    refs = []
    for version in ("1.0.0", "1.0.1"):
        folder = tmp_path / version
        shutil.copytree(churn, folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        shutil.copy(ROOT / "requirements.lock", folder)
        settings = (folder / "slipway.toml").read_text()
        (folder / "slipway.toml").write_text(
            settings.replace('name = "churn"', f'name = "churn"\nversion = "{version}"', 1)
        )
        refs.append(slipway("bundle", "build", folder).out.strip())
    (tmp_path / "gate.toml").write_text(PLAN)

    plan = ("--plan", tmp_path / "gate.toml", "--out", tmp_path / "gate")
    said = settled(
        lambda: script("gate_bundles.py", *refs, *plan, home=home),
        lambda said: said.stdout.startswith("inconclusive\n"),
    )

    store = Store.open(home / "store")
    digest = parse_digest(store.find("churn:1.0.1").digest)
    statements = [json.loads(one.statement)["predicate"] for one in read_statements(store, digest, PREDICATE)]
    (statement,) = [one for one in statements if one["verdict"] != "inconclusive"]
    assert statement["verdict"] == "pass"
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("pass\n")
    assert statement["stable"] == store.find("churn:1.0.0").digest


def test_an_incompatible_candidate_is_not_served_at_all(
    slipway: Slipway, home: Path, churn: Path, tmp_path: Path
) -> None:
    before = slipway("bundle", "build", churn).out.strip()
    folder = tmp_path / "narrower"
    shutil.copytree(churn, folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "requirements.lock", folder)
    service = folder / "src" / "churn_service" / "service.py"
    service.write_text(service.read_text().replace("le=1_000", "le=900"))
    golden = folder / "golden.jsonl"
    golden.write_text("".join(golden.read_text().splitlines(keepends=True)[:3]))
    after = slipway("bundle", "build", folder).out.strip()

    said = script("gate_bundles.py", before, after, "--out", tmp_path / "gate", home=home)

    assert said.returncode == 1
    assert "support_calls" in said.stdout
    assert not (tmp_path / "gate" / "candidate.log").exists()


def test_the_demo_ends_with_five_verdicts_and_each_is_right(churn: Path) -> None:
    *rows, _ = judge_candidates(Teller(sys.stdout))[1:]

    wanted = [(candidate.name, candidate.expected) for candidate in CANDIDATES]
    assert [(row.split()[0], row[42:].split()[0]) for row in rows] == wanted, "\n".join(rows)
    assert all((ROOT / ".tools" / "demo-gate" / f"{name}.html").exists() for name, _ in wanted)
