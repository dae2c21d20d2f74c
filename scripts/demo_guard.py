"""Runs a command for as long as its own stdin stays open: `python demo_guard.py COMMAND…`.

However the demo ends (Ctrl-C, SIGTERM, kill -9), the operating system closes the other end of that pipe, and the
server is stopped: first by SIGTERM, then by force. Its exit status is the command's. Standard library only.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

STOP_S: Final = 20.0
"""The server drains for a second and finishes what it accepted."""


def main(command: Sequence[str]) -> int:
    """Run the command; stop it when stdin ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's Ctrl-C is for the demo, which then closes the pipe
        signal.signal(number, signal.SIG_IGN)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    threading.Thread(target=_stop_at_end, args=(process,), daemon=True).start()
    return process.wait()


def _stop_at_end(process: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1024):
        pass
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
