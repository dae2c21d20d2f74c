"""Run `mypy --strict` over every Python file of the repository, in as few runs as possible.

All members go in one run, which works because packages and test files have unique names. mypy knows one module of a
name, so of the loose files that share one (`conftest.py`, each service's `train.py`) only the first is in that run and
each other has a run of its own, on the same cache.
"""

import os
import subprocess
import sys
from pathlib import Path

from workspace import ROOT

FOLDERS = ("libs", "services", "tests", "scripts", "benchmarks", "platform", "loadtests", "tools")

LEFT_OUT = (("benchmarks", "peers"),)
"""What peers are measured with needs the peers, which are not in the lock."""


GENERATED = ("_pb2.py", "_pb2_grpc.py")
"""Written by a compiler (`scripts/protos.py`); their types are in the stubs beside them."""


def main() -> int:
    """Exit status of the worst run, after all have run."""
    together: list[str] = []
    alone: list[str] = []
    seen: set[str] = set()
    for path in [Path("conftest.py"), *_files()]:
        loose = "src" not in path.parts
        (alone if loose and path.name in seen else together).append(str(path))
        if loose:
            seen.add(path.name)
    helpers = [
        str(path.relative_to(ROOT))
        for path in sorted([*ROOT.glob("*/*/tests"), *ROOT.glob("*/tests"), *ROOT.glob("tests/*/")])
    ]
    environment = os.environ | {"MYPYPATH": os.pathsep.join(["scripts", "tests", *helpers])}
    command = [sys.executable, "-m", "mypy", "--no-error-summary"]
    runs = [together, *([name] for name in alone)]
    return max(subprocess.call([*command, *run], cwd=ROOT, env=environment) for run in runs)


def _files() -> list[Path]:
    found = [path.relative_to(ROOT) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.parts)
        and path.parts[:2] not in LEFT_OUT
        and not path.name.endswith(GENERATED)
    ]


if __name__ == "__main__":
    sys.exit(main())
