"""The gate's own false alarms, for real: two servers of one bundle, real load, a verdict each time.

    .venv/bin/python benchmarks/gate_real.py --runs 50 [--plan services/churn/gate.toml] [--out FOLDER]

Each run is `slipway gate run --same` with churn's own plan; the servers change places from run to run. It asks nothing
of the machine: a run that the machine disturbed is inconclusive and is counted so. Evidence that is in the folder
already is not made again, so a run that was interrupted goes on. Needs a trained churn (`make demo`).
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from demo_screen import SLIPWAY, run_step  # noqa: E402  # a folder of programs, not a package
from gate_arms import ArmServer, arm_server  # noqa: E402

RUN_S = 240.0
CHURN = ROOT / "services" / "churn"


def main() -> int:
    """Run what is not there yet, then the table of all that is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--plan", type=Path, default=CHURN / "gate.toml")
    parser.add_argument("--out", type=Path, default=ROOT / ".tools" / "gate-real")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(options.runs) if not (options.out / f"{number}.json").exists()]
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as opened:
        home = {"SLIPWAY_HOME": scratch}
        if missing:
            ref = run_step("build", [*SLIPWAY, "bundle", "build", str(CHURN)], home).strip()
            serve = ("env", f"SLIPWAY_HOME={scratch}", *SLIPWAY)
            folders = [Path(scratch) / name for name in ("first", "second")]
            for folder in folders:
                folder.mkdir()
            servers = [opened.enter_context(arm_server("stable", serve, ref, folder)) for folder in folders]
        for number in missing:
            decision = compare(servers if number % 2 else servers[::-1], ref, number, options, home)
            print(f"{number:>3}  {line_of(decision)}", flush=True)
    decisions = [decision_in(options.out / f"{number}.json") for number in range(options.runs)]
    print(table(decisions))
    return 0


def compare(
    servers: list[ArmServer], ref: str, number: int, options: argparse.Namespace, home: dict[str, str]
) -> dict[str, Any]:
    """One run to its end; what was decided."""
    stable, candidate = servers
    evidence = options.out / f"{number}.json"
    flags = [*replace(stable, arm="stable").flags, *replace(candidate, arm="candidate").flags]
    flags += ["--stable-bundle", ref, "--candidate-bundle", ref]
    command = [*SLIPWAY, "gate", "run", "--same", "--plan", str(options.plan), *flags, "--evidence", str(evidence)]
    said = subprocess.run(command, env=os.environ | home, capture_output=True, text=True, check=False, timeout=RUN_S)
    if not evidence.exists():
        raise SystemExit(f"run {number} could not be judged:\n{said.stderr}")
    return decision_in(evidence)


def decision_in(evidence: Path) -> dict[str, Any]:
    """What was decided."""
    decision: dict[str, Any] = json.loads(evidence.read_bytes())["decision"]
    return decision


def line_of(decision: dict[str, Any]) -> str:
    """Verdict, length, requests of each arm, why."""
    requests = decision["requests"].get("candidate", 0)
    reason = next(iter(decision["reasons"]), "")
    return f"{decision['verdict']:<13} {decision['at_s']:5.0f} s {requests:>7} {reason[:90]}"


def table(decisions: list[dict[str, Any]]) -> str:
    """How often which verdict, with the interval of the share of fails, and which metrics alarmed alone."""
    verdicts = Counter(decision["verdict"] for decision in decisions)
    fails, runs = verdicts["fail"], len(decisions)
    low, high = binomtest(fails, runs).proportion_ci(method="exact")
    lines = [
        f"{runs} runs of equal arms: "
        + ", ".join(f"{verdicts[name]} {name}" for name in ("pass", "fail", "inconclusive"))
    ]
    lines.append(f"false alarms: {fails} = {fails / runs:.1%}, true share {low:.1%} to {high:.1%} at 95 %")
    judged = [metric for decision in decisions for metric in decision.get("metrics", ())]
    alone = Counter(metric["metric"] for metric in judged if metric.get("p_worse", 1.0) <= 0.05)
    lines.append(f"alarmed alone, at 5 %: {dict(alone) or 'none'}")
    findings = Counter(finding["code"] for decision in decisions for finding in decision.get("findings", ()))
    lines.append(f"findings: {dict(findings) or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
