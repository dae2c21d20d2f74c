"""The shape of every file: small, documented, named after one thing, free of what does not belong in a repository."""

import ast
import re
from collections import Counter

from house_files import ROOT, called, every_file, files_of_tests, functions, python_files, sources, text_files, tree

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "manager", "core", "misc"}

# Written in pieces, so that this file does not contain what it forbids.
INDEX_HOSTS = re.compile(
    "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "regis" + r"try\.npmjs", "proxy" + r"\.golang"])
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.~-])/(?:" + "|".join(["ro" + "ot", "wo" + "rk", "ho" + "me/[a-z]+", "Us" + "ers/[a-z]+"]) + r")/\w"
)
UNFINISHED = re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b"]))


def test_no_python_file_is_longer_than_400_lines() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in python_files()}

    assert [f"{path} {n}" for path, n in lengths.items() if n > MAX_FILE_LINES] == []


def test_no_function_is_longer_than_60_lines() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in python_files()
        for node in functions(path)
    }

    assert [f"{name} {n}" for name, n in lengths.items() if n > MAX_FUNCTION_LINES] == []


def test_every_module_says_what_it_is_responsible_for() -> None:
    """Except tests, whose names say it, and what peers are measured with, written as their own pages write it."""
    silent = [
        str(path)
        for path in python_files()
        if not ast.get_docstring(tree(path))
        and path not in files_of_tests()
        and path.parts[:2] != ("benchmarks", "peers")
    ]

    assert silent == []


def test_test_files_have_unique_names() -> None:
    """pytest's default import mode and mypy both know one module of a name."""
    names = Counter(path.name for path in files_of_tests())

    assert [name for name, n in names.items() if n > 1] == []


def test_no_tests_folder_is_a_package() -> None:
    assert [str(path) for path in every_file() if path.name == "__init__.py" and "tests" in path.parts] == []


def test_the_platform_folder_never_becomes_a_package() -> None:
    """`platform/__init__.py` would hide the standard library's `platform` from everything started in the root."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_file_names_say_what_is_inside() -> None:
    assert [str(path) for path in python_files() if path.stem.strip("_") in NAMES_THAT_SAY_NOTHING] == []


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{path}:{n}"
        for path, text in text_files()
        for n, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]

    assert found == []


def test_no_package_index_is_named() -> None:
    """A company's mirror is one variable; a host written down here would go round it."""
    found = [
        f"{path}:{n}"
        for path, text in text_files()
        for n, line in enumerate(text.splitlines(), 1)
        if INDEX_HOSTS.search(line)
    ]

    assert found == []


def test_no_path_of_somebodys_machine_is_written_down() -> None:
    found = [
        f"{path}:{n}"
        for path, text in text_files()
        for n, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]

    assert found == []


def test_libraries_do_not_print() -> None:
    """Standard output belongs to the command line; a library logs or returns."""
    quiet = [path for path in sources() if "cli" not in path.parts]

    found = [
        f"{path}:{node.lineno}"
        for path in quiet
        for node in ast.walk(tree(path))
        if called(node) == "print" and isinstance(node, ast.Call)
    ]

    assert found == []
