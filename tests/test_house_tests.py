"""What every test of the repository keeps to: it asserts something, it does not sleep, it does not mock."""

import ast

from house_files import called, files_of_tests, functions, python_files, tree

ASSERTING = (
    "assert_",
    "expect_",
    "check_",
    "require_",
    "pytest.raises",
    "pytest.warns",
    "pytest.fail",
    "run_state_machine",
)


def test_every_test_asserts_something() -> None:
    silent = [
        f"{path}:{node.lineno} {node.name}"
        for path in files_of_tests()
        for node in functions(path)
        if node.name.startswith("test_") and not any(_asserts(inner) for inner in ast.walk(node))
    ]

    assert silent == []


def test_no_test_sleeps() -> None:
    """Time is an argument of what decides; what acts is waited for by an event or a deadline.

    On a loop in virtual time a sleep takes no time, so there `asyncio.sleep` is a way to say when.
    """
    sleeping = [
        f"{path}:{node.lineno}"
        for path in files_of_tests()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and called(node).endswith("sleep")
        and not _is_zero(node)
        and not (called(node) == "asyncio.sleep" and _is_virtual(tree(path)))
    ]

    assert sleeping == []


def test_nothing_is_mocked() -> None:
    """A mock of our own code tests the mock; small fakes of our Protocols and real processes do the rest.

    What Pulumi calls mocks is its way to run a program without its engine.
    """
    mocking = [
        str(path)
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pulumi.runtime"))
        and any("mock" in name for name in (getattr(node, "module", None) or "", *(one.name for one in node.names)))
    ]

    assert mocking == []


def test_no_test_is_excused_for_being_flaky() -> None:
    excuses = {"pytest.mark.flaky", "pytest.mark.xfail"}

    excused = [str(path) for path in files_of_tests() for node in ast.walk(tree(path)) if _dotted(node) in excuses]

    assert excused == []


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    name = called(node)
    return name.startswith(ASSERTING) or name.rpartition(".")[2].startswith(ASSERTING)


def _is_virtual(module: ast.Module) -> bool:
    imports = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    names = [name for node in imports for name in (node.module or "", *(alias.name for alias in node.names))]
    return any("virtual" in name.lower() for name in names)


def _is_zero(node: ast.Call) -> bool:
    return len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
