"""Rename this repository in place, so that a company owns it under its own name.

    python3 scripts/fork.py acme             packages acme_*, command `acme`, ACME_* variables, acme_* metrics
    python3 scripts/fork.py acme --dry-run   say what would change, change nothing

Stdlib only: it runs before anything is installed. It does not rename what a stored bundle consists of (KEPT), so that
forks can exchange bundles, nor history (HISTORY). Contents are rewritten before paths, and files git ignores are left
alone. Invariant: a refused call has changed nothing. Why in place and not a template language: docs/adr/0009.
"""

import argparse
import io
import keyword
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLD = "slipway"

KEPT = ("application/vnd.slipway.", "io.slipway.", "slipway.json", "slipway.dev/")
"""Media types, annotation keys and the manifest's file name: the bundle format belongs to no fork."""

HISTORY = re.compile(r"LICENSE|CHANGELOG\.md|changes/(?!README).*")
"""What was true under the old name stays written under the old name."""

LONGEST = 20

LONGER_LINES = """\
[tool.ruff.lint.pycodestyle]
max-line-length = 150                # code is still wrapped at line-length; prose grew with the repository's name

"""


class Refused(Exception):
    """The call cannot be carried out; nothing was changed. `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Name:
    """One name in its four spellings."""

    plain: str
    """distributions, command, prose: `acme-ml`"""

    @property
    def identifier(self) -> str:
        """Imports and metrics: `acme_ml`."""
        return self.plain.replace("-", "_")

    @property
    def upper(self) -> str:
        """Environment variables: `ACME_ML`."""
        return self.identifier.upper()

    @property
    def camel(self) -> str:
        """Class names: `AcmeMl`."""
        return "".join(part.capitalize() for part in self.plain.split("-"))


@dataclass(frozen=True)
class Plan:
    """What will be written and moved; paths are relative to the root."""

    texts: dict[Path, str]
    moves: dict[Path, Path]
    words: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, plan, rename, say what comes next."""
    parser = argparse.ArgumentParser(description="rename this repository in place", epilog="example: fork.py acme")
    parser.add_argument("name", help="the new name: lower-case letters and digits, words joined by hyphens")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
    options = parser.parse_args(arguments)
    try:
        new = check_name(options.name, ROOT)
        if not options.dry_run:
            check_tree(ROOT)
        plan = make_plan(ROOT, Name(OLD), new)
    except Refused as refused:
        print(f"fork: {refused}\nhint: {refused.hint}", file=sys.stderr)
        return 2
    for old, moved in plan.moves.items():
        print(f"{old} -> {moved}")
    told = f"{plan.words} words in {len(plan.texts)} files, {len(plan.moves)} paths"
    if options.dry_run:
        print(f"fork: would change {told}; nothing was changed", file=sys.stderr)
        return 0
    carry_out(plan, ROOT)
    refresh_lock(ROOT)
    if len(new.plain) > len(OLD):
        allow_longer_lines(ROOT)
    print(f"fork: {OLD} is now {new.plain}: {told}", file=sys.stderr)
    print("next: make fix regen test && git add -A && git commit", file=sys.stderr)
    print("next: your owners into .github/CODEOWNERS, your contact into SECURITY.md", file=sys.stderr)
    return 0


def check_name(text: str, root: Path) -> Name:
    """Raise Refused unless `text` can be a package, a command and a metric prefix."""
    if text == OLD:
        raise Refused(f"this repository is already called {text!r}", "choose another name")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*", text) or len(text) > LONGEST:
        expected = f"at most {LONGEST} lower-case letters and digits, words joined by hyphens"
        raise Refused(f"the name cannot be used: got {text!r}, expected {expected}", "for example: acme or acme-ml")
    if OLD in text:
        raise Refused(f"{text!r} contains {OLD!r}, so old and new could not be told apart", "choose another name")
    name = Name(text)
    if taken := _taken(root).get(name.identifier):
        raise Refused(f"{text!r} is taken: it is {taken}", "choose a name that nothing here is called")
    return name


def check_tree(root: Path) -> None:
    """Raise Refused unless git could undo everything: `git checkout .` must bring back today."""
    command = ["git", "status", "--porcelain"]
    status = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if status.returncode:
        raise Refused("this folder is not a git repository, so a rename could not be undone", "git init, add, commit")
    if status.stdout:
        changed = len(status.stdout.splitlines())
        raise Refused(f"{changed} files are changed and not committed", "commit or stash them, then run this again")


def make_plan(root: Path, old: Name, new: Name) -> Plan:
    """Work out every text and path; reads all files, writes none."""
    texts: dict[Path, str] = {}
    moves: dict[Path, Path] = {}
    words = 0
    for path in _files(root):
        if HISTORY.fullmatch(path.as_posix()):
            continue
        moved = Path(rename(path.as_posix(), old, new)[0])
        if moved != path:
            moves[path] = moved
        if text := _text(root / path):
            code, names = rename_names(text, old, new) if path.suffix == ".py" else (text, 0)
            changed, count = rename(code, old, new)
            count += names
            words += count
            if count:
                texts[path] = changed
    return Plan(texts, moves, words)


def rename(text: str, old: Name, new: Name) -> tuple[str, int]:
    """Put `new` for each spelling of `old`, outside KEPT; returns the text and how often."""
    count = 0

    def put(found: re.Match[str]) -> str:
        nonlocal count
        if found["kept"]:
            return found["kept"]
        count += 1
        if found["upper"]:
            return new.upper
        if found["camel"]:
            return new.camel
        return new.identifier if found["identifier"] else new.plain

    kept = "|".join(rf"(?<![\w.]){re.escape(word)}" for word in KEPT)
    # `slipway_…` and `…_slipway` are identifiers, `slipway:name` is a recorded series; any other is the plain word.
    identifier = rf"{old.identifier}(?=_|:[a-z])|(?<=_){old.identifier}" + (
        f"|{old.identifier}" if old.identifier != old.plain else ""
    )
    pattern = f"(?P<kept>{kept})|(?P<upper>{old.upper})|(?P<camel>{old.camel})|(?P<identifier>{identifier})|{old.plain}"
    return re.sub(pattern, put, text), count


def rename_names(source: str, old: Name, new: Name) -> tuple[str, int]:
    """In Python source, rename what is called `slipway` and nothing else: there a hyphen would be a minus."""
    lines = source.splitlines(keepends=True)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token for token in tokens if token.type == tokenize.NAME and token.string == old.identifier]
    for token in reversed(found):
        (row, start), (_, end) = token.start, token.end
        line = lines[row - 1]
        lines[row - 1] = line[:start] + new.identifier + line[end:]
    return "".join(lines), len(found)


def carry_out(plan: Plan, root: Path) -> None:
    """Write the texts, then move the files, deepest first; folders that become empty go."""
    for path, text in plan.texts.items():
        (root / path).write_bytes(text.encode())
    for path, moved in sorted(plan.moves.items(), key=lambda move: -len(move[0].parts)):
        (root / moved).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / moved)
    for folder in sorted({path.parent for path in plan.moves}, key=lambda path: -len(path.parts)):
        _prune(root / folder, root)


def refresh_lock(root: Path) -> None:
    """The lock's header holds a digest of the pyproject files, which now name other members; its pins are the same."""
    import workspace  # reads with tomllib, which a Python older than the project's own does not have

    path = root / workspace.LOCK
    line = rf"(?m)^{re.escape(workspace.DIGEST_LINE)}[0-9a-f]*$"
    path.write_text(re.sub(line, f"{workspace.DIGEST_LINE}{workspace.input_digest(root)}", path.read_text()))


def allow_longer_lines(root: Path) -> None:
    """The formatter wraps code that a longer name pushed past the limit, but not comments and docstrings."""
    path = root / "pyproject.toml"
    text = path.read_text()
    if LONGER_LINES not in text:
        path.write_text(text.replace("[tool.ruff.lint.pylint]", LONGER_LINES + "[tool.ruff.lint.pylint]"))


def _taken(root: Path) -> dict[str, str]:
    """Identifiers that a package here cannot have, with the reason."""
    lock = (root / "requirements.lock").read_text()
    taken = {pin.replace("-", "_"): "a package in requirements.lock" for pin in re.findall(r"(?m)^([\w-]+)==", lock)}
    taken |= {path.name.replace("-", "_"): f"the folder {path.name}/" for path in root.iterdir() if path.is_dir()}
    for room in ("libs", "services"):
        taken |= {path.name: f"the folder {room}/{path.name}" for path in (root / room).iterdir() if path.is_dir()}
    taken |= dict.fromkeys(sys.stdlib_module_names, "a module of the standard library")
    return taken | dict.fromkeys(keyword.kwlist, "a word of the language")


def _files(root: Path) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise Refused("git cannot list the files of this folder", listed.stderr.strip())
    return [path for name in listed.stdout.split("\0") if name and (root / (path := Path(name))).is_file()]


def _text(path: Path) -> str | None:
    """The file's text; None for links and binaries."""
    if path.is_symlink():
        return None
    data = path.read_bytes()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _prune(folder: Path, root: Path) -> None:
    while folder != root and folder.is_dir() and all(entry.name == "__pycache__" for entry in folder.iterdir()):
        shutil.rmtree(folder)
        folder = folder.parent


if __name__ == "__main__":
    sys.exit(main())
