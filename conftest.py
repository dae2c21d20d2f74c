"""What every test run needs, whichever room the test is in: hypothesis profiles and the `needs` marker.

Fixtures belong to the room that uses them, not here.
"""

import os
import shutil
import signal
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
