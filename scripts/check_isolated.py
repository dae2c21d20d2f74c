"""Prove that each member imports only what it declares.

A shared environment hides a forgotten dependency, because a sibling brought the package. Two checks find it:
(1) every import statement, lazy ones too, names the standard library, the member itself or a declared distribution;
(2) in an environment that holds only the member's own dependencies, from the lock, every module can be imported,
except those whose missing package is one of the member's extras.
Environments and verdicts are kept in `.tools/isolated/`, keyed by everything that they depend on.
"""

import ast
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import lock
import workspace
from workspace import LOCK, ROOT, Member

TYPESHED = "_typeshed"
"""Types of the standard library that only checkers see."""

CACHE = ROOT / ".tools" / "isolated"

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(f"{name} {error.name}")
    except Exception as error:
        print(f"{name} !{type(error).__name__}: {error}")
"""


def main() -> int:
    """Print each undeclared import; 0 when there is none."""
    members = [member for member in workspace.members() if member.package]
    providers = _providers(members)
    problems = [problem for member in members for problem in undeclared(ROOT, member, providers)]
    problems += [problem for member in members for problem in _unimportable(member, members, providers)]
    for problem in problems:
        print(f"isolated: {problem}", file=sys.stderr)
    if problems:
        print(
            "hint: what is imported stands in `dependencies` of that pyproject.toml; then `make lock`", file=sys.stderr
        )
    return 1 if problems else 0


def undeclared(root: Path, member: Member, providers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence for each import statement in the member's sources that its pyproject does not account for."""
    declared = _declared(member)
    for path in sorted((root / member.folder / "src").rglob("*.py")):
        for name, line in _imports(path):
            known = name in {*sys.stdlib_module_names, TYPESHED} or name == member.package
            if not known and declared.isdisjoint(providers.get(name, [workspace.normalise(name)])):
                yield f"{path.relative_to(root)}:{line} imports {name!r}, which {member.pyproject} does not declare"


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], node.lineno


def _declared(member: Member) -> set[str]:
    requirements = (text for key, texts in member.sections.items() if key != "build" for text in texts)
    return {_distribution(text) for text in requirements}


def _distribution(requirement: str) -> str:
    return workspace.normalise(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def _providers(members: list[Member]) -> dict[str, list[str]]:
    found = {name: [workspace.normalise(d) for d in dists] for name, dists in packages_distributions().items()}
    return found | {member.package: [member.name] for member in members if member.package}


def _unimportable(member: Member, members: list[Member], providers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    closure = _closure(member, members)
    environment = CACHE / member.name
    key = _digest([ROOT / LOCK, Path(__file__), *(ROOT / m.pyproject for m in closure)], sys.version)
    if _read(environment / "key") != key:
        _install(member, environment, key)
    sources = [path for m in closure for path in sorted((ROOT / m.folder / "src").rglob("*.py"))]
    verdict = _digest(sources, key)
    if _read(environment / "verdict") == verdict:
        return
    failures = list(_failures(member, environment, providers))
    yield from failures
    if not failures:
        (environment / "verdict").write_text(verdict)


def _failures(member: Member, environment: Path, providers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    source = ROOT / member.folder / "src"
    names = [_module(path.relative_to(source)) for path in sorted(source.rglob("*.py")) if path.name != "__main__.py"]
    command = [str(environment / "bin" / "python"), "-I", "-c", IMPORT_ALL, *names]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        yield f"{member.name}: importing its modules ended with status {run.returncode}\n{run.stderr.strip()}"
    extras = {_distribution(t) for key, texts in member.sections.items() if key.startswith("extra ") for t in texts}
    victims: dict[str, list[str]] = {}
    for line in run.stdout.splitlines():
        module, _, reason = line.partition(" ")
        victims.setdefault(reason, []).append(module)
    for reason, modules in victims.items():
        told = modules[0] if len(modules) == 1 else f"{modules[0]} and {len(modules) - 1} more modules"
        if reason.startswith("!"):
            yield f"{told} cannot be imported: {reason[1:]}"
        elif extras.isdisjoint(providers.get(reason.partition(".")[0], [])):
            yield f"{told} cannot be imported with only {member.name}'s dependencies: no module named {reason!r}"


def _install(member: Member, environment: Path, key: str) -> None:
    uv = lock.find_uv()
    shutil.rmtree(environment, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(environment)], check=True, cwd=ROOT)
    command = [uv, "pip", "install", "-q", "--python", str(environment / "bin" / "python")]
    command += ["--constraints", LOCK, "--build-constraint", LOCK, "--editable", member.folder]
    subprocess.run(command, check=True, cwd=ROOT)
    (environment / "key").write_text(key)


def _closure(member: Member, members: list[Member]) -> list[Member]:
    by_name = {m.name: m for m in members}
    found = [member]
    for each in found:  # grows while it is walked
        found += [by_name[name] for name in sorted(_declared(each) & by_name.keys()) if by_name[name] not in found]
    return found


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _digest(paths: Sequence[Path], salt: str) -> str:
    running = hashlib.sha256(salt.encode())
    for path in paths:
        running.update(str(path).encode() + b"\0" + path.read_bytes())
    return running.hexdigest()


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
