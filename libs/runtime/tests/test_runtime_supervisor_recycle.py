import os
import signal
from pathlib import Path

from supervised_children import FAST, LEAVES, READY, SAY, Drive, child

from slipway_runtime.backoff import BackoffLimits
from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits, WorkerStatistics

ASKS_ONCE = (
    SAY
    + """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
flag = sys.argv[1] + "/" + os.environ["SLIPWAY_GENERATION"]
is_first = not os.path.exists(flag)
open(flag, "w").close()
if not is_first and "breaks" in sys.argv:
    try:
        open(flag + ".broken", "x").close()
        sys.exit(4)
    except FileExistsError:
        pass
say('{"says": "ready"}')
if is_first:
    say('{"says": "recycle", "reason": "2.1 GiB resident, limit 2 GiB"}')
os.read(control, 1)
"""
)
"""The first process of a generation asks for a successor; with `breaks` the second one does not start."""


def test_a_worker_that_asks_gets_a_successor_of_its_own_generation_and_serves_until_it_is_ready(
    tmp_path: Path,
) -> None:
    fewest: list[int] = []
    after: list[WorkerStatistics] = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if drive.count("recycling") and not drive.count("stopping"):
            workers = drive.supervisor.statistics().workers
            fewest.append(sum((one.name, one.state) == ("run-0", "ready") for one in workers))
        if event.kind == "died" and not after:
            after.extend(drive.supervisor.statistics().workers)
            drive.supervisor.stop()

    drive = Drive([child("api-0", READY), child("run-0", ASKS_ONCE, str(tmp_path), stage=1)], react)

    assert [(one.kind, one.message) for one in drive.events if one.kind == "recycling"] == [
        ("recycling", "2.1 GiB resident, limit 2 GiB")
    ]
    assert drive.kinds("run-0")[:7] == ["started", "ready", "recycling", "started", "ready", "draining", "died"]
    assert min(fewest) == 1
    assert [(one.name, one.generation, one.restarts, one.recycled) for one in after] == [
        ("api-0", 0, 0, 0),
        ("run-0", 0, 0, 1),
    ]
    assert drive.count("backing_off") == 0


def test_workers_that_ask_together_are_replaced_one_after_the_other(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    most = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        most.append(len(drive.supervisor.statistics().workers))
        if event.kind == "died" and drive.count("died") == 3:
            drive.supervisor.stop()

    for folder in folders:
        folder.mkdir()
    drive = Drive([child(f"run-{folder.name}", ASKS_ONCE, str(folder)) for folder in folders], react)

    assert drive.count("recycling") == 3
    assert max(most) == 4


def test_a_successor_that_fails_leaves_the_old_one_and_is_tried_again_after_a_wait(tmp_path: Path) -> None:
    quick = SupervisorLimits(backoff=BackoffLimits(first_s=0.25, ceiling_s=0.25))

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "recycle_failed":
            assert drive.supervisor.statistics().workers[0].pid == drive.pids("run-0")[0]
        if event.kind == "draining":
            drive.supervisor.stop()

    drive = Drive([child("run-0", ASKS_ONCE, str(tmp_path), "breaks")], react, limits=quick)

    failed = next(one for one in drive.events if one.kind == "recycle_failed")
    again = [one for one in drive.events if one.kind == "recycling"][1]
    assert failed.message == "the new worker ended: exit status 4; tried again in 0.2 s"
    assert again.at - failed.at >= 0.25
    assert len(drive.pids("run-0")) == 3
    assert drive.count("backing_off") == 0


def test_no_one_is_recycled_during_a_swap_and_who_is_left_is_afterwards(tmp_path: Path) -> None:
    """The dispatcher asks while the swap runs; the swap does not replace it."""
    specs = [
        child("api-0", LEAVES),
        child("dispatcher", ASKS_ONCE, str(tmp_path), stage=1, rolls=False),
        child("run-0", LEAVES, stage=1),
    ]

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if (event.kind, event.worker) == ("ready", "dispatcher") and not drive.count("swapping"):
            drive.supervisor.swap(specs)  # its wish follows in the same breath
        if event.kind == "died" and drive.count("recycling"):
            drive.supervisor.stop()

    drive = Drive(specs, react)

    kinds = [kind for kind in drive.kinds() if kind in {"swapping", "swapped", "recycling"}]
    assert kinds == ["swapping", "swapped", "recycling"]
    assert drive.steps("recycling") == [("recycling", "dispatcher", 0)]


def test_a_wish_dies_with_the_process_that_had_it(tmp_path: Path) -> None:
    hour = SupervisorLimits(backoff=BackoffLimits(first_s=3600.0, ceiling_s=3600.0))

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "recycle_failed":
            os.kill(drive.pids("run-0")[0], signal.SIGKILL)
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.stop()

    drive = Drive([child("run-0", ASKS_ONCE, str(tmp_path), "breaks")], react, limits=hour)

    assert drive.count("recycling") == 1
    assert drive.kinds()[-7:] == ["backing_off", "started", "ready", "stopping", "draining", "died", "stopped"]


def test_a_worker_that_dies_while_its_successor_starts_is_replaced_by_it(tmp_path: Path) -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "started" and drive.count("started") == 2:
            os.kill(drive.pids("run-0")[0], signal.SIGKILL)
        if event.kind == "ready" and drive.count("ready") == 2:
            drive.supervisor.stop()

    drive = Drive([child("run-0", ASKS_ONCE, str(tmp_path))], react, limits=FAST)

    assert len(drive.pids("run-0")) == 2
    assert drive.count("backing_off") == 0


def test_stop_while_a_successor_starts_ends_both(tmp_path: Path) -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "started" and drive.count("started") == 2:
            drive.supervisor.stop()

    drive = Drive([child("run-0", ASKS_ONCE, str(tmp_path))], react)

    assert drive.count("died") == 2
    assert drive.count("recycle_failed") == 0
    assert drive.status == 0
