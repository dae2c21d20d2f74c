"""What the house tests look at: the files that git knows or would add, and their syntax trees.

Reads only. Works in a checkout and in a plain copy (a fork being tested), where `.gitignore` is not consulted.
"""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = {".png", ".ico", ".ubj", ".onnx", ".gz", ".parquet"}


@cache
def every_file() -> tuple[Path, ...]:
    """Tracked files, and new ones that are not ignored, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    return tuple(sorted(Path(name) for name in listed if name and (ROOT / name).is_file()))


def text_files() -> Iterator[tuple[Path, str]]:
    """Each file that is text, with its text."""
    for path in every_file():
        if path.suffix not in BINARY:
            yield path, (ROOT / path).read_text()


@cache
def python_files() -> tuple[Path, ...]:
    """Every Python file."""
    return tuple(path for path in every_file() if path.suffix == ".py")


def sources() -> tuple[Path, ...]:
    """What is shipped: Python files under a `src/`."""
    return tuple(path for path in python_files() if "src" in path.parts)


def files_of_tests() -> tuple[Path, ...]:
    """Test files, which start with `test_`."""
    return tuple(path for path in python_files() if path.name.startswith("test_"))


@cache
def tree(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(), filename=str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def called(node: ast.AST) -> str:
    """Dotted name of what a call calls, empty for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    parts: list[str] = []
    target = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    if isinstance(target, ast.Name):
        parts.append(target.id)
    return ".".join(reversed(parts))
