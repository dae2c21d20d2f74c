"""Write `requirements.lock`: one universal, hash-pinned lock for every member, extra and group, without an index host.

    python scripts/lock.py             keep the pins that still fit, add and drop what changed
    python scripts/lock.py --upgrade   newest versions that are at least a week old
    python scripts/lock.py --package x newest version of one package

Does not install anything. Why this and not `uv.lock`: docs/adr/0003. The file is replaced at once or not at all.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import workspace
from workspace import DIGEST_LINE, LOCK, ROOT, Member

COOL_DOWN = "7 days"
"""An upgrade takes no release younger than this: most poisoned releases are found and withdrawn within days."""

OLDEST_PYTHON = "3.11"

HEADER = """\
# Every package that slipway installs, for every platform and Python >= {python}, with its hashes.
# Written by `make lock` (scripts/lock.py); no index host stands here, so a mirror is one variable: UV_DEFAULT_INDEX.
# `# via` names who asks for a package: a member as `name (path of its pyproject.toml[:group])`, or another package.
{digest_line}{digest}
"""


def main() -> int:
    """Resolve into a temporary file, tidy it, replace the lock."""
    parser = argparse.ArgumentParser(description="write requirements.lock")
    parser.add_argument("--upgrade", action="store_true", help=f"newest versions that are older than {COOL_DOWN}")
    parser.add_argument("--package", action="append", default=[], help="upgrade only this package (repeatable)")
    args = parser.parse_args()
    found = workspace.members()
    target = ROOT / LOCK
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".lock-") as folder:
        draft = Path(folder) / LOCK
        if target.exists() and not args.upgrade:
            shutil.copyfile(target, draft)  # uv keeps the pins it finds in its output file
        chosen = [f"--upgrade-package={name}" for name in args.package]
        fresh = ["--exclude-newer", COOL_DOWN] if args.upgrade or not target.exists() else []
        status = subprocess.call([*_compile(found), *chosen, *fresh, "--output-file", str(draft)], cwd=ROOT)
        if status:
            print("lock: nothing was written; the lines above say which requirements cannot meet", file=sys.stderr)
            return 1 if status == 1 else 3
        draft.write_text(tidy(draft.read_text(), found, workspace.input_digest()))
        before = set(_versions(target.read_text())) if target.exists() else set()
        after = set(_versions(draft.read_text()))
        draft.chmod(0o644)
        draft.replace(target)
    for name in sorted(before ^ after) if before else ():
        print(f"lock: {'+' if name in after else '-'} {name}", file=sys.stderr)
    print(f"lock: {len(after)} packages", file=sys.stderr)
    return 0


def tidy(text: str, found: list[Member], digest: str) -> str:
    """Put our header on and name each member once in `# via`: uv lists an editable sibling a second time, bare."""
    own = {member.name for member in found}
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    kept: list[str] = []
    for line in lines:
        via = re.fullmatch(r"    #   (\S+)", line)
        if via and via[1] in own:
            continue
        kept.append(line)
    header = HEADER.format(python=OLDEST_PYTHON, digest_line=DIGEST_LINE, digest=digest)
    return header + "\n".join(kept) + "\n"


def _compile(found: list[Member]) -> list[str]:
    command = [find_uv(), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header"]
    command += ["--python-version", OLDEST_PYTHON, "--all-extras"]
    for member in found:
        command += [f"--group={member.pyproject}:{group}" for group in member.groups]
        command += ["--no-emit-package", member.name]
    return command + [member.pyproject for member in found if member.folder != "."]


@cache
def find_uv() -> str:
    """The uv that `setup.sh` found or installed."""
    script = [str(ROOT / "scripts" / "setup.sh"), "uv"]
    return subprocess.run(["sh", *script], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _versions(text: str) -> list[str]:
    return [f"{pin.name} {pin.version}" for pin in workspace.pins(text)]


if __name__ == "__main__":
    sys.exit(main())
