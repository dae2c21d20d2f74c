import os
import signal

import pytest
from supervised_children import LEAVES, READY, SAY, STUBBORN, Drive, child

from slipway_runtime.orders import SwapBusyError
from slipway_runtime.supervision import RolloutStatistics, SupervisorEvent, SupervisorStatistics, WorkerSpec

TELLS = (
    SAY
    + """
os.write(int(sys.argv[1]), (sys.argv[2] + " " + os.environ["SLIPWAY_GENERATION"] + "\\n").encode())
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
say('{"says": "ready"}')
os.read(control, 1)
"""
)


def service(*runners: str, code: str = LEAVES) -> list[WorkerSpec]:
    """Two API workers, a dispatcher, and these runners."""
    front = [child(name, code) for name in ("api-0", "api-1")]
    behind = [child("dispatcher", code, stage=1, rolls=False)]
    return front + behind + [child(name, code, stage=1) for name in runners]


def swap_once(drive: Drive, event: SupervisorEvent, at: int, specs: list[WorkerSpec]) -> None:
    """Swap when `at` workers are ready for the first time; stop when that has ended."""
    if event.kind == "ready" and drive.count("ready") == at:
        drive.supervisor.swap(specs, "v2")
    if event.kind in {"swapped", "swap_failed"}:
        drive.supervisor.stop()


def test_new_runners_are_ready_before_any_api_worker_goes_and_old_runners_go_last() -> None:
    drive = Drive(service("run-0", "run-1"), lambda drive, event: swap_once(drive, event, 5, service("run-0", "run-1")))

    steps = drive.steps("swapping", "started", "ready", "draining", "died", "swapped", "stopping")
    steps = steps[steps.index(("swapping", None, 1)) : steps.index(("stopping", None, None))]
    assert sorted(steps[1:5]) == [(kind, f"run-{n}", 1) for kind in ("ready", "started") for n in (0, 1)]
    assert steps[5:13] == [
        *[("started", "api-0", 1), ("ready", "api-0", 1), ("draining", "api-0", 0), ("died", "api-0", 0)],
        *[("started", "api-1", 1), ("ready", "api-1", 1), ("draining", "api-1", 0), ("died", "api-1", 0)],
    ]
    assert sorted(steps[13:17]) == [(kind, f"run-{n}", 0) for kind in ("died", "draining") for n in (0, 1)]
    assert steps[17:] == [("swapped", None, 1)]
    assert drive.status == 0


def test_what_does_not_roll_stays() -> None:
    drive = Drive(service("run-0"), lambda drive, event: swap_once(drive, event, 4, service("run-0")))

    assert len(drive.pids("dispatcher")) == 1
    assert len(drive.pids("run-0")) == 2


def test_a_reload_rolls_the_runners_too() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 4:
            os.kill(os.getpid(), signal.SIGHUP)
        if event.kind == "reloaded":
            drive.supervisor.stop()

    drive = Drive(service("run-0"), react)

    ready = drive.steps("ready")[4:]
    assert ready == [("ready", "run-0", 1), ("ready", "api-0", 1), ("ready", "api-1", 1)]


def test_runners_may_come_and_go() -> None:
    after: list[SupervisorStatistics] = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "swapped":
            after.append(drive.supervisor.statistics())
        swap_once(drive, event, 5, [*front, *runners, dispatcher])

    *front, dispatcher = service()
    runners = service("run-1", "run-2", "run-3")[3:]
    drive = Drive(service("run-0", "run-1"), react)

    shown = [(one.name, one.generation, one.state) for one in after[0].workers]
    assert shown == [
        *[("api-0", 1, "ready"), ("api-1", 1, "ready")],
        *[("run-1", 1, "ready"), ("run-2", 1, "ready"), ("run-3", 1, "ready")],
        ("dispatcher", 0, "ready"),
    ]
    assert drive.status == 0


def test_a_dispatcher_that_was_not_needed_before_is_started_and_then_stays() -> None:
    front = [child("api-0", LEAVES)]
    pooled = [*front, child("dispatcher", LEAVES, stage=1, rolls=False), child("run-0", LEAVES, stage=1)]

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind == "ready" and drive.count("ready") == 1) or drive.kinds()[-1:] == ["swapped"]:
            if drive.count("swapped") < 2:
                drive.supervisor.swap(pooled)
            else:
                drive.supervisor.stop()

    drive = Drive(front, react)

    assert drive.steps("started")[1:] == [
        *[("started", "dispatcher", 1), ("started", "run-0", 1), ("started", "api-0", 1)],
        *[("started", "run-0", 2), ("started", "api-0", 2)],
    ]


def test_the_new_processes_run_the_new_programs_and_know_their_generation() -> None:
    read, write = os.pipe()

    def specs(version: str) -> list[WorkerSpec]:
        names = [("api-0", 0), ("run-0", 1)]
        return [child(n, TELLS, str(write), f"{version} {n}", pass_fds=[write], stage=stage) for n, stage in names]

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 4:
            os.kill(drive.pids("run-0")[-1], signal.SIGKILL)  # the restarted one is of its own generation
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.swap(specs("new"))
        if drive.count("swapped") and drive.count("ready") == 5:
            drive.supervisor.stop()

    Drive(specs("old"), react)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read().splitlines()

    assert sorted(told[:2]) == ["old api-0 0", "old run-0 0"]
    assert told[2:] == ["new run-0 1", "new api-0 1", "new run-0 1"]


def test_the_rollout_is_shown_phase_by_phase() -> None:
    seen: list[RolloutStatistics] = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        rollout = drive.supervisor.statistics().rollout
        if rollout is not None and (not seen or seen[-1].phase != rollout.phase):
            seen.append(rollout)
        swap_once(drive, event, 4, service("run-0"))

    drive = Drive(service("run-0"), react)

    assert [one.phase for one in seen] == ["preparing", "replacing", "retiring", "over"]
    assert {(one.kind, one.generation, one.token, one.message) for one in seen} == {("swap", 1, "v2", "")}
    assert [one.outcome for one in seen] == [None, None, None, "done"]
    assert drive.supervisor.statistics().rollout == seen[-1]


def test_before_the_first_rollout_there_is_nothing_to_show() -> None:
    drive = Drive([child("api-0", READY)], lambda drive, event: drive.supervisor.stop())

    assert drive.supervisor.statistics().rollout is None


def test_a_swap_while_another_runs_is_refused_and_changes_nothing() -> None:
    refused: list[SwapBusyError] = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if drive.count("swapping") and not drive.count("swapped"):
            with pytest.raises(SwapBusyError, match="another swap or reload is running") as caught:
                drive.supervisor.swap(service("other"))
            refused.append(caught.value)
        swap_once(drive, event, 4, service("run-0"))

    drive = Drive(service("run-0"), react)

    assert len(refused) >= 10
    assert {one.code for one in refused} == {"swap_busy"}
    assert "/debug/rollout" in str(refused[0].hint)
    assert drive.pids("other") == []


def test_a_swap_during_a_reload_is_refused() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 4:
            drive.supervisor.reload()
        if event.kind == "reloading":
            with pytest.raises(SwapBusyError):
                drive.supervisor.swap(service("run-0"))
        if event.kind == "reloaded":
            drive.supervisor.stop()

    drive = Drive(service("run-0"), react)

    assert drive.count("reloading") == 1
    assert drive.count("swapping") == 0


def test_a_reload_during_a_swap_is_done_after_it() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 4:
            drive.supervisor.swap(service("run-0"))
        if event.kind == "swapping":
            drive.supervisor.reload()
            drive.supervisor.reload()
        if event.kind == "reloaded":
            drive.supervisor.stop()

    drive = Drive(service("run-0"), react)

    assert drive.steps("swapping", "swapped", "reloading", "reloaded") == [
        *[("swapping", None, 1), ("swapped", None, 1), ("reloading", None, 2), ("reloaded", None, 2)]
    ]


def test_a_stopping_supervisor_refuses_a_swap() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            drive.supervisor.stop()
        if event.kind == "stopping":
            with pytest.raises(SwapBusyError, match="stopping"):
                drive.supervisor.swap([child("api-0", READY)])

    drive = Drive([child("api-0", READY)], react)

    assert drive.count("stopping") == 1
    with pytest.raises(SwapBusyError):
        drive.supervisor.swap([child("api-0", READY)])


def test_a_swap_keeps_the_api_workers() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            with pytest.raises(ValueError, match="keeps the API workers"):
                drive.supervisor.swap([child("api-1", READY)])
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY)], react)

    assert drive.count("swapping") == 0


def test_an_old_runner_that_does_not_finish_is_killed_and_the_swap_is_done() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        swap_once(drive, event, 2, [child("api-0", LEAVES), child("run-0", LEAVES, stage=1)])
        if event.kind == "draining" and event.worker == "run-0":
            os.kill(event.pid or 0, signal.SIGKILL)

    drive = Drive([child("api-0", LEAVES), child("run-0", STUBBORN, stage=1)], react)

    assert drive.count("swapped") == 1
    assert drive.count("backing_off") == 0


def test_old_runners_go_stage_by_stage() -> None:
    specs = [child(name, LEAVES, stage=stage) for name, stage in (("api-0", 0), ("deep-0", 2), ("run-0", 1))]

    drive = Drive(specs, lambda drive, event: swap_once(drive, event, 3, specs))

    gone = [who for kind, who, generation in drive.steps("draining", "died") if generation == 0]
    assert gone == ["api-0", "api-0", "run-0", "run-0", "deep-0", "deep-0"]


def test_restarts_are_counted_over_generations() -> None:
    seen: list[tuple[str, int, int]] = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            os.kill(drive.pids("run-0")[0], signal.SIGKILL)
        if event.kind == "swapped":
            seen.extend((one.name, one.restarts, one.recycled) for one in drive.supervisor.statistics().workers)
        swap_once(drive, event, 3, specs)

    specs = [child("api-0", LEAVES), child("run-0", LEAVES, stage=1)]
    Drive(specs, react)

    assert seen == [("api-0", 0, 0), ("run-0", 1, 0)]
