import os
import signal

from supervised_children import CRASHING, FAST, READY, SAY, SILENT, Drive, child, read_to_end

from slipway_runtime.backoff import BackoffLimits
from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits


def test_a_killed_worker_is_started_again_and_the_other_is_untouched() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if drive.count("ready") == 2 and event.kind == "ready":
            os.kill(drive.pids("api-0")[0], signal.SIGKILL)
        if drive.count("ready") == 3 and event.kind == "ready":
            os.kill(os.getpid(), signal.SIGTERM)

    drive = Drive([child("api-0", READY), child("api-1", READY)], react)

    assert len(drive.pids("api-0")) == 2
    assert len(drive.pids("api-1")) == 1
    died = [one for one in drive.events if one.kind == "died" and one.worker == "api-0"]
    assert died[0].message == "killed by SIGKILL"
    assert drive.kinds("api-1") == ["started", "ready", "draining", "died"]


def test_the_first_restart_has_no_wait() -> None:
    slow = SupervisorLimits(backoff=BackoffLimits(first_s=3600.0, ceiling_s=3600.0))

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            if drive.count("ready") == 1:
                os.kill(drive.pids("api-0")[0], signal.SIGKILL)
            else:
                drive.supervisor.stop()

    drive = Drive([child("api-0", READY)], react, limits=slow)

    assert drive.count("ready") == 2


def test_many_workers_killed_at_once_are_all_started_again() -> None:
    """Signals coalesce: five deaths may arrive as one SIGCHLD."""
    names = [f"api-{number}" for number in range(5)]

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 5:
            for name in names:
                os.kill(drive.pids(name)[0], signal.SIGKILL)
        if event.kind == "ready" and drive.count("ready") == 10:
            drive.supervisor.stop()

    drive = Drive([child(name, READY) for name in names], react)

    assert [len(drive.pids(name)) for name in names] == [2] * 5
    assert drive.status == 0


def test_a_crash_loop_backs_off_and_is_visible() -> None:
    seen = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "backing_off":
            seen.append(drive.supervisor.statistics().workers[0])
        if event.kind == "crash_loop":
            assert drive.supervisor.statistics().workers[0].is_crash_looping
        if drive.count("backing_off") == 6:
            drive.supervisor.stop()

    drive = Drive([child("api-0", CRASHING)], react)

    assert [one.state for one in seen] == ["backing_off"] * 6
    assert [one.restarts for one in seen] == [1, 2, 3, 4, 5, 6]
    assert {one.last_exit for one in seen} == {"exit status 7"}
    assert [one.is_crash_looping for one in seen] == [False, False, True, True, True, True]
    assert drive.count("crash_loop") == 1
    assert len(drive.pids("api-0")) == 6


def test_a_worker_that_backs_off_is_not_started_before_its_time() -> None:
    """With an hour to wait the supervisor must still obey at once."""
    hour = SupervisorLimits(backoff=BackoffLimits(first_s=3600.0, ceiling_s=3600.0))

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if drive.count("backing_off") == 2:
            drive.supervisor.stop()

    drive = Drive([child("api-0", CRASHING)], react, limits=hour)

    assert len(drive.pids("api-0")) == 2
    assert drive.status == 0


def test_deaths_are_forgotten_when_a_worker_was_ready_for_long() -> None:
    quick = SupervisorLimits(backoff=BackoffLimits(first_s=0.001, steady_s=0.0, crash_loop_after=1))
    looping = []

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") == 1:
            os.kill(drive.pids("api-0")[0], signal.SIGKILL)
        if event.kind in {"crash_loop", "steady"}:
            looping.append(drive.supervisor.statistics().workers[0].is_crash_looping)
        if event.kind == "steady":
            drive.supervisor.stop()

    Drive([child("api-0", READY)], react, limits=quick)

    assert looping == [True, False]


def test_a_worker_that_never_gets_ready_is_reported_and_killed() -> None:
    hasty = SupervisorLimits(start_timeout_s=0.05, backoff=BackoffLimits(first_s=3600.0))

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "backing_off":
            drive.supervisor.stop()

    drive = Drive([child("api-0", SILENT)], react, limits=hasty)

    assert drive.kinds("api-0")[:4] == ["started", "late", "died", "backing_off"]
    assert drive.events[2].message == "killed by SIGKILL"


def test_a_worker_that_speaks_nonsense_is_killed_and_started_again() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if drive.count("started") == 2:
            drive.supervisor.stop()

    drive = Drive([child("api-0", SAY + "say('hello?')\nos.read(control, 1)")], react)

    assert drive.kinds("api-0")[:3] == ["started", "broken", "died"]
    assert "does not decode" in drive.events[1].message


def test_what_a_killed_worker_started_is_killed_too() -> None:
    read, write = os.pipe()
    code = (
        SAY
        + """
if os.fork() == 0:
    time.sleep(3600)
say('{"says": "ready"}')
os.read(control, 1)
"""
    )

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            os.close(write)
            os.kill(drive.pids("api-0")[0], signal.SIGKILL)
        if event.kind == "died":
            drive.supervisor.stop()

    Drive([child("api-0", code, pass_fds=[write])], react, limits=FAST)

    assert read_to_end(read) == b""


def test_an_event_handler_that_fails_does_not_end_the_service() -> None:
    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready":
            drive.supervisor.stop()
            raise ZeroDivisionError

    drive = Drive([child("api-0", READY)], react)

    assert drive.status == 0
    assert drive.kinds()[-1] == "stopped"
