"""A service of real processes in miniature: API workers on one inherited socket, a runner of each generation behind."""

import socket
import threading
from pathlib import Path

from supervised_children import SAY, child

from slipway_runtime.supervision import WorkerSpec

SERVES = (
    SAY
    + """
import select, socket

def serve(listening, answer):
    # Told to stop, it finishes what it has accepted; nothing is accepted and then dropped.
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    listening.setblocking(False)
    say('{"says": "ready"}')
    while True:
        readable, _, _ = select.select([listening, woken, control], [], [])
        if woken in readable or control in readable:
            return
        try:
            client, _ = listening.accept()
        except BlockingIOError:
            continue
        with client:
            client.sendall(answer())
"""
)
RUNNER = (
    SERVES
    + """
path, generation = sys.argv[1], os.environ["SLIPWAY_GENERATION"]
if generation in sys.argv[2:]:
    raise SystemExit(9)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(f"{path}/{generation}")
    listening.listen(64)
    serve(listening, generation.encode)
os.unlink(f"{path}/{generation}")
"""
)
API = (
    SERVES
    + """
path, fd, generation = sys.argv[1], int(sys.argv[2]), os.environ["SLIPWAY_GENERATION"]
if generation in sys.argv[3:]:
    raise SystemExit(9)

def ask():
    with socket.socket(socket.AF_UNIX) as runner:
        runner.connect(f"{path}/{generation}")
        return runner.recv(16)

with socket.socket(fileno=fd) as listening:
    serve(listening, ask)
"""
)


def api(name: str, folder: Path, listening: socket.socket, *fails_in: str) -> WorkerSpec:
    fd = listening.fileno()
    return child(name, API, str(folder), str(fd), *fails_in, pass_fds=[fd])


def runner(name: str, folder: Path, *fails_in: str) -> WorkerSpec:
    return child(name, RUNNER, str(folder), *fails_in, stage=1)


class Client(threading.Thread):
    """Asks again and again, from `start` until `close`, and keeps every answer; an error ends it."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._is_over = False
        self.answers: list[str] = []
        self.errors: list[str] = []

    def run(self) -> None:
        while not self._is_over:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=20) as asking:
                    answer = asking.recv(16).decode()
            except OSError as error:
                answer = repr(error)
            if not answer.isdigit():
                self.errors.append(answer)
                return
            self.answers.append(answer)

    def close(self) -> None:
        self._is_over = True
        self.join(30)
