"""Load for as long as one likes: nobody is failed, no worker is replaced, and none grows. `make longload`."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from chaos_load import pause
from serve_process import serving
from trained_churn import trained_churn

LOAD_S = float(os.environ.get("LOAD_S", "120"))
"""Seconds of load; `make longload` says half an hour."""
RATE = 200.0
"""Requests a second: little enough for a runner that is shared."""
LOOKS = 100
GROWTH_BYTES = 8 * 2**20
"""Of one worker, between the second and the last quarter. A leak of 100 bytes a request is 9 MB in half an hour of two
workers."""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(round(LOAD_S) + 300)]


def plan_of(url: str, admin: str) -> str:
    """A soak with what callers get wrong in it: a refusal must not leak either."""
    return (
        f"rate = {RATE}\nseconds = {LOAD_S}\nwindow_s = 5\n[shape]\ntype = 'soak'\nrise_s = {min(60.0, LOAD_S / 10)}\n"
        "[[scenarios]]\nmix = {valid = 0.9, boundary = 0.08, invalid = 0.02}\n"
        f"[arms.stable]\nurl = '{url}'\nadmin = '{admin}'\n"
    )


def private_bytes(workers: list[psutil.Process]) -> list[int]:
    """Memory that only this worker has, of each."""
    return [worker.memory_full_info().uss for worker in workers]


def test_long_load_fails_nobody_and_no_worker_grows(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    with serving(trained_churn(), store=tmp_path / "store", flags={"workers": 2}) as served:
        (tmp_path / "soak.toml").write_text(plan_of(served.url, served.admin))
        workers = served.workers()
        command = [sys.executable, "-P", "-m", "slipway_cli", "load", "run", "--plan", str(tmp_path / "soak.toml")]
        with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
            while load.poll() is None:
                seen.append(private_bytes(workers))
                pause(LOAD_S / LOOKS)
            out, said = load.communicate()
        after = served.workers()

    assert load.returncode == 0, said
    stable = json.loads(out)["arms"]["stable"]
    quarter = len(seen) // 4
    settled, last = (
        [statistics.median(each) for each in zip(*looks, strict=True)]
        for looks in (seen[quarter : 2 * quarter], seen[-quarter:])
    )
    growth = [round(after_ - before) for before, after_ in zip(settled, last, strict=True)]
    mib = ", ".join(f"{at / 2**20:.0f} {grown / 2**20:+.1f} MiB" for at, grown in zip(settled, growth, strict=True))
    print(f"soak {stable['sent']:,} requests in {LOAD_S:g} s, failed {stable['failed']}; workers {mib}")
    assert stable["failed"] == {}
    assert stable["sent"] > 0.8 * RATE * LOAD_S
    assert [one.pid for one in after] == [one.pid for one in workers]
    assert max(growth) < GROWTH_BYTES
