import os
import signal
from pathlib import Path

from supervised_children import CRASHING, SAY, Drive, child

from slipway_runtime.supervision import SupervisorEvent

COUNTS = (
    SAY
    + """
os.write(int(os.environ["SLIPWAY_SLOT_FD"]), sys.argv[1].encode())
say('{"says": "ready"}')
os.read(control, 1)
"""
)


class PipeKeeper:
    """A slot keeper whose slots are pipes."""

    def __init__(self) -> None:
        self.pipes: dict[str, int] = {}
        self.folded: list[str] = []
        self.read: list[bytes] = []

    def open(self, process: str) -> int:
        self.pipes[process], write = os.pipe()
        return write

    def fold(self, process: str) -> None:
        self.folded.append(process)
        with os.fdopen(self.pipes[process], "rb") as pipe:
            self.read.append(pipe.read())


def test_each_process_gets_a_slot_and_is_folded_once_after_its_death() -> None:
    keeper = PipeKeeper()

    def react(drive: Drive, event: SupervisorEvent) -> None:
        if event.kind == "ready" and drive.count("ready") >= 2:
            if drive.count("ready") <= 6:
                os.kill(drive.pids("api-0")[-1], signal.SIGKILL)
            else:
                drive.supervisor.stop()

    drive = Drive([child("api-0", COUNTS, "zero"), child("api-1", COUNTS, "one")], react, slots=keeper)

    assert sorted(keeper.folded) == sorted(keeper.pipes)
    assert len(keeper.folded) == len(drive.pids("api-0")) + len(drive.pids("api-1"))
    assert keeper.read.count(b"zero") == len(drive.pids("api-0"))
    assert keeper.read.count(b"one") == 1


def test_a_worker_that_could_not_be_executed_is_folded_too() -> None:
    keeper = PipeKeeper()
    missing = child("api-0", CRASHING)
    missing = type(missing)(name="api-0", argv=("/nowhere/python",), env={})

    Drive([missing], lambda drive, event: None, slots=keeper)

    assert keeper.folded == ["api-0.1"]
    assert keeper.read == [b""]


def test_no_descriptor_is_left_open() -> None:
    keeper = PipeKeeper()
    before = sorted(Path("/dev/fd").iterdir())

    Drive([child("api-0", COUNTS, "zero")], lambda drive, event: drive.supervisor.stop(), slots=keeper)

    assert sorted(Path("/dev/fd").iterdir()) == before
