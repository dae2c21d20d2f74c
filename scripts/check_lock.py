"""Prove, offline, that `requirements.lock` is what the pyproject files ask for.

Checks: the header's input digest; every dependency of every member, extra and group is pinned and the pin
satisfies it; every pin has hashes; no URL, path or index option stands in the file; nothing is pinned twice for
one environment. Does not ask an index whether newer versions exist, nor resolve: `make lock` does.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import workspace
from packaging.requirements import Requirement
from workspace import LOCK, ROOT, Member, Pin

REFRESH = "hint: run `make lock` and commit requirements.lock"


def main() -> int:
    """Print each problem on its own line; 0 when there is none."""
    problems = list(check(ROOT))
    for problem in problems:
        print(f"lock: {problem}", file=sys.stderr)
    if problems:
        print(REFRESH, file=sys.stderr)
    return 1 if problems else 0


def check(root: Path) -> Iterator[str]:
    """Yield a sentence for everything that is wrong with the lock under `root`."""
    text = (root / LOCK).read_text()
    found = workspace.members(root)
    pins = workspace.pins(text)
    told, asked = workspace.locked_digest(text), workspace.input_digest(root)
    if told != asked:
        yield f"{LOCK} was made from other pyproject files: got inputs sha256:{told}, expected sha256:{asked}"
    yield from _foreign_lines(text)
    for pin in pins:
        if not pin.hashes:
            yield f"{LOCK}:{pin.line} pins {pin.name} without a hash"
    yield from _doubles(pins)
    by_name: dict[str, list[Pin]] = {}
    for pin in pins:
        by_name.setdefault(pin.name, []).append(pin)
    own = {member.name: member for member in found}
    for member in found:
        yield from _unmet(member, own, by_name)


def _foreign_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            continue
        if "://" in line or re.match(r"\s*(-|\.|/|file:)", line.replace("    --hash=", "")):
            yield f"{LOCK}:{number} must hold pins only, got {line.strip()!r}"


def _doubles(pins: list[Pin]) -> Iterator[str]:
    seen: dict[tuple[str, str], Pin] = {}
    for pin in pins:
        first = seen.setdefault((pin.name, pin.marker), pin)
        if first is not pin:
            yield f"{LOCK}:{pin.line} pins {pin.name} a second time (first: line {first.line})"


def _unmet(member: Member, own: dict[str, Member], pins: dict[str, list[Pin]]) -> Iterator[str]:
    for section, requirements in member.sections.items():
        for text in requirements:
            wanted = Requirement(text)
            name = workspace.normalise(wanted.name)
            where = f"{member.pyproject} [{section}]"
            if sibling := own.get(name):
                for extra in sorted(wanted.extras - set(sibling.extras)):
                    known = ", ".join(sibling.extras) or "none"
                    yield f"{where} asks for extra {extra!r} of {name}, which has {known}"
            elif name not in pins:
                yield f"{where} asks for {text!r}, which is not in {LOCK}"
            else:
                for pin in pins[name]:
                    if not wanted.specifier.contains(pin.version, prereleases=True):
                        yield f"{where} asks for {text!r}, but {LOCK}:{pin.line} pins {pin.version}"


if __name__ == "__main__":
    sys.exit(main())
