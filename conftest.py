"""What every test run needs, whichever room the test is in: hypothesis profiles, the `needs` marker, taking turns.

`pytest -n 2 --dist loadfile` runs the files beside each other, in as many processes; a test that is marked `alone`
judges time, and while it runs no other does. Fixtures belong to the room that uses them, not here.
"""

import fcntl
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent

# `dev` explores a little on every run; `ci` always tries the same examples, so a red run can be repeated.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """Choose the profile, let Ctrl-C reach children, find what `scripts/system-packages.sh` unpacked."""
    settings.load_profile("ci" if os.environ.get("CI") else "dev")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job of a shell: nobody would see Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    unpacked = ROOT / ".tools" / "system" / "usr" / "bin"
    os.environ["PATH"] = f"{unpacked}{os.pathsep}{os.environ['PATH']}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is missing, and say which."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: sh scripts/system-packages.sh")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside other processes: the long files first, so that none is left over, and the tests that run alone last."""
    if _is_one_of_several(config):
        items.sort(key=_turn_of)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for this test's turn; the wait is no part of its time."""
    if not _is_one_of_several(item.config):
        return (yield)
    with _turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def _is_one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _turn_of(item: pytest.Item) -> int:
    if item.get_closest_marker("alone"):
        return 2
    return 0 if item.get_closest_marker("slow") else 1


@contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    """Share the machine with the tests of the other processes, or have it; whoever waits at the door is next."""
    with (ROOT / "conftest.py").open() as door, (ROOT / "pyproject.toml").open() as room:  # two files that are there
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # a child of the test may have inherited it, and live on
