import os
import signal
from pathlib import Path

from supervised_children import READY, SAY, Drive, child

from slipway_runtime.supervision import SupervisorEvent, WorkerStatistics

READY_UNLESS = (
    SAY
    + """
if os.path.exists(sys.argv[1]):
    raise SystemExit(5)
say('{"says": "ready"}')
os.read(control, 1)
"""
)


def test_a_rolling_restart_replaces_one_worker_at_a_time_and_never_has_fewer() -> None:
    fewest = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            os.kill(os.getpid(), signal.SIGHUP)
        if drive.count("reloading") and not drive.count("reloaded"):
            fewest.append(drive.supervisor.statistics().counts()["ready"])
        if event.kind == "reloaded":
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY), child("api-1", READY)], react)

    assert min(fewest) == 2
    reloading = [one for one in drive.events if one.kind == "reloading" or drive.events.index(one) > 4]
    steps = [(one.kind, one.worker) for one in reloading]
    assert steps[: steps.index(("reloaded", None)) + 1] == [
        ("reloading", None),
        *[("started", "api-0"), ("ready", "api-0"), ("draining", "api-0"), ("died", "api-0")],
        *[("started", "api-1"), ("ready", "api-1"), ("draining", "api-1"), ("died", "api-1")],
        ("reloaded", None),
    ]
    assert drive.supervisor.statistics().workers[0].restarts == 0


def test_a_new_worker_that_does_not_start_leaves_the_old_ones_alone(tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    old: list[WorkerStatistics] = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            flag.touch()
            drive.supervisor.reload()
        if event.kind == "reload_failed":
            old.extend(drive.supervisor.statistics().workers)
            drive.supervisor.stop()

    drive = Drive([child(name, READY_UNLESS, str(flag)) for name in ("api-0", "api-1")], react)

    assert [one.state for one in old] == ["ready", "ready"]
    assert [one.pid for one in old] == [drive.pids("api-0")[0], drive.pids("api-1")[0]]
    assert [one.message for one in drive.events if one.kind == "reload_failed"] == [
        "the new worker ended: exit status 5"
    ]


def test_a_worker_that_dies_while_its_successor_starts_is_replaced_by_it() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 1:
            drive.supervisor.reload()
        if event.kind == "started" and drive.count("started") == 2:
            os.kill(drive.pids("api-0")[0], signal.SIGKILL)
        if event.kind == "reloaded":
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY)], react)

    assert len(drive.pids("api-0")) == 2
    assert drive.count("backing_off") == 0


def test_a_reload_asked_for_during_a_reload_is_done_after_it() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind == "ready" and drive.count("ready") == 2) or (
            event.kind == "draining" and drive.count("draining") == 1
        ):
            drive.supervisor.reload()
        if drive.count("reloaded") == 2:
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY), child("api-1", READY)], react)

    assert [len(drive.pids(name)) for name in ("api-0", "api-1")] == [3, 3]


def test_stop_during_a_reload_ends_old_and_new() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 1:
            drive.supervisor.reload()
        if event.kind == "started" and drive.count("started") == 2:
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY)], react)

    assert drive.count("died") == 2
    assert drive.status == 0
