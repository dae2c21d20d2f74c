"""Is a service as good as before this change? `make gate` builds it twice, here and where the change began.

    .venv/bin/python scripts/gate_change.py --base origin/main --service services/churn

Where the change began is a second working tree with an environment of its own, so a change of slipway itself is
compared too. Nothing of this leaves the folder `.tools/gate`, but for what `--out` names. Exit status 0: pass, or
nothing that is served has changed.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import gate_bundles
from demo_screen import ROOT, StepFailedError, run_step, shown

PLAN = "gate.toml"
SERVED = ("libs", "requirements.lock")
"""What every service is made of, beside its own folder."""


def main(arguments: Sequence[str]) -> int:
    """Build both, compare; the exit status."""
    parser = argparse.ArgumentParser(prog="gate_change.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the working tree that has changed")
    parser.add_argument("--base", default=os.environ.get("SLIPWAY_BASE_COMMIT") or "origin/main", help="since when")
    parser.add_argument("--base-cli", help="serve the older one with this `slipway`, not one of its own environment")
    parser.add_argument("--service", default="services/churn", help="folder of the service")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("SLIPWAY_EVIDENCE") or "gate"))
    options = parser.parse_args(arguments)
    try:
        return compare(options, options.root.resolve())
    except StepFailedError as error:
        sys.stderr.write(f"gate: {error.what}\n{error.said}\nhint: to see more, run `{shown(error.command)}`\n")
        return 3


def compare(options: argparse.Namespace, root: Path) -> int:
    """Where it began, both bundles, the gate."""
    base = run_step("merge-base", ["git", "-C", str(root), "merge-base", "HEAD", options.base]).strip()
    paths = [*SERVED, options.service]
    unchanged = ["git", "-C", str(root), "diff", "--quiet", base, "--", *paths]
    if subprocess.run(unchanged, check=False).returncode == 0:
        gate_bundles.say(f"nothing that {options.service} is made of has changed since {base[:12]}")
        return 0
    os.environ["SLIPWAY_HOME"] = str(root / ".tools" / "gate")
    with older(root, base) as before:
        cli = options.base_cli
        if cli is None:
            gate_bundles.say(f"setting up {base[:12]} beside this, with an environment of its own")
            run_step("setup", ["sh", str(before / "scripts" / "setup.sh"), "demo"])
            cli = str(before / ".venv" / "bin" / "slipway")
        stable = built(before, options.service, Path(cli).with_name("python"))
        candidate = built(root, options.service, Path(sys.executable))
        plan = root / options.service / PLAN
        command = [stable, candidate, "--out", str(options.out), "--stable-cli", cli]
        return gate_bundles.main([*command, *(["--plan", str(plan)] if plan.exists() else [])])


@contextlib.contextmanager
def older(root: Path, commit: str) -> Iterator[Path]:
    """A working tree of a commit, for the length of the block."""
    folder = root / ".tools" / "gate-base"
    git = ["git", "-C", str(root), "worktree"]
    subprocess.run(
        [*git, "remove", "--force", str(folder)], capture_output=True, check=False
    )  # of a run that was killed
    run_step("worktree", [*git, "add", "--quiet", "--force", "--detach", str(folder), commit])
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True, check=False)


def built(root: Path, service: str, python: Path) -> str:
    """Train the service where its model is not kept in git, and build it; its reference in the store."""
    folder = root / service
    if (folder / "train.py").exists() and not (folder / "model").exists():
        run_step("train", [str(python), str(folder / "train.py")])
    return run_step("build", [str(python), "-P", "-m", "slipway_cli", "bundle", "build", str(folder)]).strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
