"""Is one bundle as good as another? Serves both, sends both the same load, and lets the gate judge.

    .venv/bin/python scripts/gate_bundles.py churn:1.0.0 churn:1.1.0 --out gate

It judges nothing itself: each step is a verb of `slipway`, in its own process. The invariant: exit status 0 means that
the gate said pass and that the evidence for it is in the folder and beside the candidate in the store; what the gate
refuses leaves its evidence there too. Prints the verdict.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from demo_screen import SLIPWAY, StepFailedError, last_lines, run_step, shown
from gate_arms import arm_server

EVIDENCE = "evidence.json"


def main(arguments: Sequence[str]) -> int:
    """Compare; the exit status."""
    options = parsed(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        return compare(options)
    except StepFailedError as error:
        sys.stderr.write(f"gate: {error.what}\n{error.said}\nhint: to see more, run `{shown(error.command)}`\n")
        return 3
    except KeyboardInterrupt:
        sys.stderr.write("gate: interrupted\n")
        return 130


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="gate_bundles.py", description=__doc__.partition("\n")[0])
    parser.add_argument("stable", help="reference of what has the traffic, in the local store")
    parser.add_argument("candidate", help="reference of what may take its place")
    parser.add_argument("--out", type=Path, default=Path("gate"), help="folder for evidence, report and logs")
    parser.add_argument("--plan", type=Path, help="a gate.toml: rate, length, margins")
    parser.add_argument("--key", help="who signs the evidence and the statement about it")
    parser.add_argument("--public", help="public half of a key of a key service")
    parser.add_argument("--stable-cli", default="", help="the `slipway` that serves stable, of another version")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> int:
    """Interfaces first, then load; status 0 when the verdict is pass."""
    said = slipway("bundle", "compatible", options.stable, options.candidate)
    if said.returncode:
        return told(said)
    signing = ["--key", options.key] if options.key else []
    signing += ["--public", options.public] if options.public else []
    with contextlib.ExitStack() as opened:
        serving_stable = (options.stable_cli,) if options.stable_cli else SLIPWAY
        servers = [
            opened.enter_context(arm_server("stable", serving_stable, options.stable, options.out)),
            opened.enter_context(arm_server("candidate", SLIPWAY, options.candidate, options.out)),
        ]
        say(f"comparing {options.candidate} with {options.stable}")
        flags = [flag for server in servers for flag in server.flags]
        flags += ["--stable-bundle", options.stable, "--candidate-bundle", options.candidate]
        flags += ["--same"] if digest_of(options.stable) == digest_of(options.candidate) else []
        flags += ["--plan", str(options.plan)] if options.plan else []
        evidence = options.out / EVIDENCE
        evidence.unlink(missing_ok=True)
        status = told(slipway("gate", "run", *flags, "--evidence", str(evidence), *signing))
    if evidence.exists():
        told(slipway("gate", "report", str(evidence)))
        attested = slipway("gate", "attest", options.candidate, str(evidence), *signing)
        say(last_lines(attested.stderr, 3))
        status = status or attested.returncode
    return status


def slipway(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """One verb, to its end."""
    return subprocess.run([*SLIPWAY, *arguments], capture_output=True, text=True, check=False)


def told(done: "subprocess.CompletedProcess[str]") -> int:
    """Pass on what it said; its status."""
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.stdout.flush()
    return done.returncode


def digest_of(ref: str) -> str:
    """Of the bundle's index.

    Raises:
        StepFailedError: There is no such bundle.
    """
    return str(json.loads(run_step("inspect", [*SLIPWAY, "bundle", "inspect", ref, "--json"]))["digest"])


def say(text: str) -> None:
    """A line of words."""
    sys.stderr.write(f"gate: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
