"""The machine turns on the server: full disks, full shared memory, jumping clocks, slow clients, floods."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import chaos_load
import httpx
import pytest
from chaos_load import SOAK_S, Load, eventually, pause
from pool_folders import write_obedient
from serve_process import serving
from test_chaos_processes import POOL, SLOW, children, ended

pytestmark = pytest.mark.soak

SLOW_CLIENTS = 10_000


@pytest.mark.needs("unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need the administrator")
@pytest.mark.parametrize("full", ["/dev/shm", "store"])  # noqa: S108  # what is filled is a mount of our own
def test_a_full_file_system_does_not_stop_serving(tmp_path: Path, full: str) -> None:
    """In a mount namespace of its own: a tiny file system in the place, filled to the last byte, then runners die."""
    store = tmp_path / "place" / "store"
    place = Path(full) if full.startswith("/") else store.parent
    place.mkdir(exist_ok=True)
    folder = write_obedient(tmp_path / "o", POOL)

    with serving(folder, store=store, prepare=f"mount -t tmpfs -o size=1m x {place}") as served:
        load = Load(served.url, action=SLOW)
        inside = f"/proc/{served.process.pid}/root{place}/filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={inside}", "bs=4096"], capture_output=True, check=False)
        assert not os.statvfs(Path(inside).parent).f_bavail
        for _ in range(2):
            pause(SOAK_S / 4)
            children(served, "runner")[0].kill()
            eventually(lambda: len(children(served, "runner")) == 2)
        pause(SOAK_S / 4)
        report = ended(f"full {full}, runners killed", load)

    assert report.failed == 0


@pytest.mark.needs("faketime")
def test_the_clock_of_the_wall_jumps(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    found = subprocess.run(
        ["faketime", "-m", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    env = {
        "LD_PRELOAD": found.stdout.strip(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store", env=env) as served:
        load = Load(served.url)  # no sleep in the model: libfaketime breaks clock_nanosleep
        for jump in ("+3600", "-7200", "+864000"):
            pause(SOAK_S / 8)
            clock.write_text(jump)
        pause(SOAK_S / 8)
        children(served, "runner")[0].kill()
        eventually(lambda: len(children(served, "runner")) == 2)
        report = ended("wall clock jumps by hours", load)

    assert report.failed == 0


def test_ten_thousand_slow_clients(tmp_path: Path) -> None:
    """Each sends its request one byte at a time, and never ends; others are served meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SLOW_CLIENTS + 2_000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} open files are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store") as served:
        command = [sys.executable, chaos_load.__file__, served.url, str(SLOW_CLIENTS), str(SOAK_S)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as slow:
            assert slow.stdout is not None
            opened = int(slow.stdout.readline())
            load = Load(served.url)
            slow.wait(SOAK_S * 2 + 60)
        report = ended(f"{opened} slow clients beside", load)

    assert opened == SLOW_CLIENTS
    assert report.failed == 0


def test_ten_times_the_capacity(tmp_path: Path) -> None:
    """A model of 20 ms a batch of at most 4 rows: 400 a second from two replicas, and 4,000 are sent."""
    runtime = "[runtime.models.obedient]\nmax_rows = 4\npool = { replicas = 2 }\n"
    with serving(write_obedient(tmp_path / "o", runtime), store=tmp_path / "store") as served:
        load = Load(served.url, clients=64, action=SLOW, patience_ms=1_000)
        pause(SOAK_S / 4)
        peak = load.stop()
        flood = Load(served.url, clients=2_000, rate=4_000, action=SLOW, patience_ms=300)
        pause(SOAK_S)
        report = ended("ten times the capacity", flood)
        with httpx.Client(base_url=served.url, timeout=10) as after:
            assert after.get("/readyz").status_code == 200

    goodput = (report.answered / SOAK_S) / (peak.answered / (SOAK_S / 4))
    print(f"      goodput {goodput:.0%} of the peak, refusals p99 {report.quantile_ms(0.99, 'refusals_s'):.1f} ms")
    assert report.failed == report.statuses[504], "nothing but a missed deadline"
    assert goodput >= 0.8
