import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from supervised_children import FAILS_IN, FAST, LEAVES, READY, SAY, SILENT, Drive, child

from slipway_runtime.backoff import BackoffLimits
from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits, SupervisorStatistics, WorkerSpec

UNLESS = (
    SAY
    + """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
if os.path.exists(sys.argv[1]):
    say('{"says": "failed", "message": "no room", "exit_status": 3}')
    sys.exit(3)
say('{"says": "ready"}')
os.read(control, 1)
"""
)
GOLDEN = "the new worker ended: golden example 3 does not replay"


def runner(name: str, code: str, *args: str) -> WorkerSpec:
    return child(name, code, *args, stage=1)


class Attempt:
    """One swap from `before` to `after`, once all of `before` are ready; `also` reacts to every event as well."""

    def __init__(
        self,
        before: list[WorkerSpec],
        after: list[WorkerSpec],
        *,
        limits: SupervisorLimits = FAST,
        also: Callable[[Drive, SupervisorEvent], None] = lambda drive, event: None,
    ) -> None:
        ends: list[SupervisorStatistics] = []

        def react(drive: Drive, event: SupervisorEvent) -> None:
            if event.kind == "ready" and drive.count("ready") == len(before):
                drive.supervisor.swap(after)
            if event.kind in {"swapped", "swap_failed"}:
                ends.append(drive.supervisor.statistics())
                drive.supervisor.stop()
            also(drive, event)

        self.drive = Drive(before, react, limits=limits)
        rollout = ends[0].rollout
        assert rollout is not None
        self.rollout = rollout
        self.workers = [(one.name, one.generation, one.state) for one in ends[0].workers]


OLD = [child("api-0", LEAVES), child("api-1", LEAVES), runner("run-0", LEAVES), runner("run-1", LEAVES)]
STILL_OLD = [(name, 0, "ready") for name in ("api-0", "api-1", "run-0", "run-1")]


def test_a_runner_whose_golden_examples_fail_leaves_the_old_ones_untouched_and_says_why() -> None:
    attempt = Attempt(OLD, [*OLD[:3], runner("run-1", FAILS_IN, "1")])

    drive, rollout = attempt.drive, attempt.rollout
    assert attempt.workers == STILL_OLD
    assert [len(drive.pids(name)) for name in ("api-0", "api-1", "run-0", "run-1")] == [1, 1, 2, 2]
    assert (rollout.kind, rollout.phase, rollout.outcome) == ("swap", "over", "failed")
    assert rollout.message == f"run-1: {GOLDEN}"
    assert [(one.worker, one.message) for one in drive.events if one.kind == "swap_failed"] == [("run-1", GOLDEN)]
    assert drive.count("backing_off") == 0
    assert drive.status == 0


def test_a_runner_that_is_never_ready_fails_the_swap_after_its_time() -> None:
    hasty = msgspec.structs.replace(FAST, start_timeout_s=0.3)

    attempt = Attempt([child("api-0", LEAVES)], [child("api-0", LEAVES), runner("run-0", SILENT)], limits=hasty)

    assert attempt.workers == [("api-0", 0, "ready")]
    assert attempt.rollout.message == "run-0: the new worker ended: it was not ready after 0.3 s, and was killed"


def test_a_runner_whose_program_is_missing_fails_the_swap() -> None:
    missing = msgspec.structs.replace(runner("run-1", LEAVES), argv=("/nowhere/python",))

    attempt = Attempt(OLD, [*OLD[:3], missing])

    assert attempt.workers == STILL_OLD
    assert attempt.rollout.message.startswith("run-1: it could not be started: ")


def test_an_api_worker_whose_program_is_missing_fails_the_swap() -> None:
    missing = msgspec.structs.replace(OLD[1], argv=("/nowhere/python",))

    attempt = Attempt(OLD, [OLD[0], missing, *OLD[2:]])

    assert attempt.workers == STILL_OLD
    assert attempt.drive.steps("started")[-1] == ("started", "api-0", 0)


def test_an_api_worker_that_fails_rolls_back_those_that_were_replaced_and_then_the_runners_go() -> None:
    attempt = Attempt(OLD, [OLD[0], child("api-1", FAILS_IN, "1"), *OLD[2:]])

    drive = attempt.drive
    steps = drive.steps("started", "ready", "draining", "died", "broken", "swap_failed")
    assert steps[steps.index(("broken", "api-1", 1)) : steps.index(("swap_failed", "api-1", 1)) - 4] == [
        *[("broken", "api-1", 1), ("died", "api-1", 1)],
        *[("started", "api-0", 0), ("ready", "api-0", 0), ("draining", "api-0", 1), ("died", "api-0", 1)],
    ]
    gone = steps[steps.index(("swap_failed", "api-1", 1)) - 4 : steps.index(("swap_failed", "api-1", 1))]
    assert sorted(gone) == [(kind, f"run-{n}", 1) for kind in ("died", "draining") for n in (0, 1)]
    assert attempt.workers == STILL_OLD
    assert [one.message for one in drive.events if one.kind == "swap_failed"] == [GOLDEN]
    assert drive.count("backing_off") == 0


def test_going_back_is_tried_until_it_succeeds(tmp_path: Path) -> None:
    """The old generation cannot start for a moment: who serves goes on, with the runners it needs."""
    flag = tmp_path / "full"
    before = [child("api-0", UNLESS, str(flag)), child("api-1", LEAVES), runner("run-0", LEAVES)]
    after = [child("api-0", LEAVES), child("api-1", FAILS_IN, "1"), runner("run-0", LEAVES)]
    serving = []

    def also(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "broken" and event.worker == "api-1":
            flag.touch()
        if event.kind == "broken" and event.worker == "api-0":
            serving.append([(one.name, one.generation) for one in drive.supervisor.statistics().workers])
            if len(serving) == 3:
                flag.unlink()

    slower = msgspec.structs.replace(FAST, backoff=BackoffLimits(first_s=0.1, ceiling_s=0.1))
    attempt = Attempt(before, after, also=also, limits=slower)

    assert attempt.workers == [("api-0", 0, "ready"), ("api-1", 0, "ready"), ("run-0", 0, "ready")]
    tries = [one.at for one in attempt.drive.events if (one.kind, one.worker) == ("started", "api-0")][2:]
    assert len(serving) == 3
    assert min(later - sooner for sooner, later in itertools.pairwise(tries)) >= 0.1
    assert all(("api-0", 1) in one and ("run-0", 1) in one for one in serving)
    assert attempt.rollout.message == f"api-1: {GOLDEN}"


def test_after_a_failed_swap_the_next_one_has_a_generation_of_its_own() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.swap([child("api-0", LEAVES), runner("run-0", FAILS_IN, "1")])
        if event.kind == "swap_failed":
            drive.supervisor.swap([child("api-0", LEAVES), runner("run-0", FAILS_IN, "1")])
        if event.kind == "swapped":
            drive.supervisor.stop()

    drive = Drive([child("api-0", LEAVES), runner("run-0", LEAVES)], react)

    assert drive.steps("swap_failed", "swapped") == [("swap_failed", "run-0", 1), ("swapped", None, 2)]


@pytest.mark.parametrize("moment", [("started", "run-1"), ("started", "api-1")])
def test_an_old_runner_that_dies_during_the_swap_is_started_again_in_its_own_generation(
    moment: tuple[str, str],
) -> None:
    killed = []

    def also(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind, event.worker) == moment and event.generation == 1:
            killed.append(drive.pids("run-0")[0])
            os.kill(killed[0], signal.SIGKILL)

    attempt = Attempt(OLD, OLD, also=also)

    assert attempt.workers == [(name, 1, "ready") for name, _, _ in STILL_OLD]
    assert len(killed) == 1
    assert attempt.drive.steps("backing_off", "started").count(("started", "run-0", 0)) == 2
    assert attempt.drive.count("swapped") == 1


def test_a_new_runner_that_dies_after_it_was_ready_is_started_again_and_the_swap_goes_on() -> None:
    def also(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and event.worker == "api-0" and event.generation == 1:
            os.kill(drive.pids("run-0")[1], signal.SIGKILL)

    attempt = Attempt(OLD, OLD, also=also)

    assert attempt.drive.count("swapped") == 1
    assert attempt.drive.steps("started").count(("started", "run-0", 1)) == 2


def test_new_runners_that_keep_dying_undo_the_swap() -> None:
    """Ready, and dead with the first rows that they get: they are killed for as long as an API worker is to come."""
    slow = child("api-1", LEAVES), child("api-1", SILENT)

    def also(drive: Drive, event: SupervisorEvent) -> None:
        if event.generation == 1 and event.kind == "ready" and event.worker == "run-0":
            os.kill(drive.pids("run-0")[-1], signal.SIGKILL)

    attempt = Attempt(
        [child("api-0", LEAVES), slow[0], runner("run-0", LEAVES)],
        [child("api-0", LEAVES), slow[1], runner("run-0", READY)],
        also=also,
    )

    assert attempt.workers == [("api-0", 0, "ready"), ("api-1", 0, "ready"), ("run-0", 0, "ready")]
    assert attempt.rollout.message == "run-0: died 3 times in a row: killed by SIGKILL"


def test_a_new_runner_that_cannot_be_started_again_undoes_the_swap(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.symlink_to(sys.executable)
    moving = msgspec.structs.replace(OLD[2], argv=(str(program), *OLD[2].argv[1:]))

    def also(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind, event.worker, event.generation) == ("started", "api-0", 1):
            program.unlink()
            os.kill(drive.pids("run-0")[1], signal.SIGKILL)

    attempt = Attempt(OLD, [child("api-0", SILENT), OLD[1], moving, OLD[3]], also=also)

    assert attempt.workers == STILL_OLD
    assert attempt.rollout.message.startswith("run-0: it could not be started")


def test_a_successor_that_is_dead_when_its_ready_is_heard_takes_nothing_over() -> None:
    brief = SAY + """say('{"says": "ready"}')"""

    def also(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind, event.worker, event.generation) == ("started", "api-1", 1):
            os.waitid(os.P_PID, event.pid or 0, os.WEXITED | os.WNOWAIT)

    attempt = Attempt(OLD, [OLD[0], child("api-1", brief), *OLD[2:]], also=also)

    assert attempt.workers == STILL_OLD
    assert len(attempt.drive.pids("api-1")) == 2
    assert ("ready", "api-1", 1) not in attempt.drive.steps("ready")


def test_an_api_worker_that_crash_loops_is_replaced_by_a_version_that_does_not(tmp_path: Path) -> None:
    """The way out of a bad version must not wait for its back-off, nor count its deaths against the good one."""
    flag = tmp_path / "full"
    hour = SupervisorLimits(backoff=BackoffLimits(first_s=3600.0, ceiling_s=3600.0, crash_loop_after=2))

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 1:
            flag.touch()
            os.kill(event.pid or 0, signal.SIGKILL)
        if event.kind == "crash_loop":
            drive.supervisor.swap([child("api-0", LEAVES)])
        if event.kind in {"swapped", "swap_failed"}:
            drive.supervisor.stop()

    drive = Drive([child("api-0", UNLESS, str(flag))], react, limits=hour)

    assert drive.steps("swapped", "swap_failed") == [("swapped", None, 1)]
    assert drive.kinds()[-7:-4] == ["ready", "steady", "swapped"]
