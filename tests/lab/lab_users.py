"""Users of churn, as a program: so many requests a second through the router, until a file appears.

    python lab_users.py URL HOST RATE STOP OUT

It also ends with who started it. Each is sent at its own time, whatever became of those before, and timed from then.
A line of OUT is when it was due (Unix seconds), how long it took (seconds), and the status of its answer; 0: there
was none.
"""

import http.client
import json
import os
import queue
import random
import sys
import threading
import time
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

THREADS = 16
TIMEOUT_S = 10.0


def customer(chance: random.Random) -> bytes:
    """One as the model knows them."""
    row = {
        "tenure_months": round(chance.uniform(0, 72), 1),
        "monthly_charges": round(chance.uniform(20, 120), 2),
        "support_calls": chance.randint(0, 6),
        "income": round(chance.uniform(15_000, 120_000)),
        "contract": chance.choice(["monthly", "yearly"]),
    }
    return json.dumps(row).encode()


def work(url: str, host: str, due: "queue.SimpleQueue[float | None]", out: IO[str], lock: threading.Lock) -> None:
    """Send what is due, over one connection that is made again after a failure."""
    parts, chance = urlsplit(url), random.Random()  # noqa: S311 - customers, not keys
    headers = {"host": host, "content-type": "application/json"}
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
    while (at := due.get()) is not None:
        try:
            connection.request("POST", "/predict", customer(chance), headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        with lock:
            out.write(f"{at:.3f} {time.time() - at:.6f} {status}\n")


def main(url: str, host: str, rate: str, stop: str, out: str) -> None:
    """Until the file `stop` is there, or nobody waits for it any more."""
    parent = os.getppid()
    due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    lock = threading.Lock()
    with Path(out).open("w", buffering=1) as file:
        threads = [threading.Thread(target=work, args=(url, host, due, file, lock)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        at, gap = time.time(), 1.0 / float(rate)
        while not Path(stop).exists() and os.getppid() == parent:
            at += gap
            time.sleep(max(0.0, at - time.time()))
            due.put(at)
        for _ in threads:
            due.put(None)
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
