"""What each part of telemetry costs a request in a real server, on a machine that others use as well.

    .venv/bin/python benchmarks/watched.py                               # once: makes the services
    taskset -c 1 .venv/bin/python benchmarks/watched.py --collect &      # takes the traces
    .venv/bin/python benchmarks/telemetry_served.py --rounds 15

All servers are up at once, pinned to core 0, and only one is loaded at a time, for a second, in turns: whatever slows
the machine for a while slows all of them. A cost is the median over the rounds of the difference to the server without
that part, in the CPU time of all its processes per request; beside it are the quartiles. Servers that are not loaded
take some milliseconds a second, which is not counted for the others. wrk is on core 1, with 64 connections.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from typing import NamedTuple

from servers import HOME, PARTS, SERVERS, Server, cpu_s, found, machine, start, stop, wait_for
from serving import script_of

NAMES = ("slipway", "slipway-unlogged", "slipway-traces", "slipway-drift", "slipway-capture", "slipway-watched")
FIRST_PORT = 8011


class Loaded(NamedTuple):
    """A server that is up."""

    pid: int
    wrk: Sequence[str]


class Turn(NamedTuple):
    """What one second of load took."""

    cpu_us: float
    requests_s: float


def main() -> int:
    """Start all, load them in turns, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(NAMES), help="which; the first is what others are compared with")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--secs", type=int, default=1, help="seconds of a turn")
    options = parser.parse_args()
    names = options.servers.split(",")
    print(machine(), flush=True)
    with ExitStack() as stack:
        up = {
            name: stack.enter_context(served(name, (SERVERS | PARTS)[name], FIRST_PORT + place, options.secs))
            for place, name in enumerate(names)
        }
        for server in up.values():
            turn(server)
        turns: dict[str, list[Turn]] = {name: [] for name in names}
        for number in range(options.rounds):
            for name in (*names[number % len(names) :], *names[: number % len(names)]):
                turns[name].append(turn(up[name]))
    show(turns)
    return 0


@contextmanager
def served(name: str, server: Server, port: int, secs: int) -> Iterator[Loaded]:
    """The server on a port of its own, for the length of the block."""
    command = server.command.rpartition(" --port")[0] + f" --port {port} --admin-port 0"
    body = (HOME / server.body).read_bytes()
    url = f"http://127.0.0.1:{port}{server.path}"
    process = start(name, server._replace(command=command), pinned=True)
    try:
        if error := wait_for(process, url, body):
            raise SystemExit(f"{name} did not start: {error}; see {HOME / name}.log")
        script = script_of(name, body)
        yield Loaded(process.pid, ("taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{secs}s", "-s", f"{script}", url))
    finally:
        stop(process.pid)


def turn(server: Loaded) -> Turn:
    """One load."""
    before = cpu_s(server.pid)
    done = subprocess.run(server.wrk, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(server.wrk)} failed: {done.stdout}{done.stderr}")
    time.sleep(0.2)  # what it does after an answer (the exporter, the compactor) is its cost as well
    requests = max(1, int(found(r"(\d+) requests in", done.stdout)))
    return Turn((cpu_s(server.pid) - before) / requests * 1e6, float(found(r"Requests/sec:\s+([\d.]+)", done.stdout)))


def show(turns: Mapping[str, Sequence[Turn]]) -> None:
    """Medians, and the differences to the first server, round by round."""
    first, *_ = turns
    print(f"{'server':<18}{'req/s':>8}{'cpu µs/req':>12}{'more than ' + first:>20}{'quartiles':>16}")
    for name, mine in turns.items():
        more = [one.cpu_us - other.cpu_us for one, other in zip(mine, turns[first], strict=True)]
        low, middle, high = quantiles(more, n=4) if len(more) > 1 else more * 3
        difference = f"{middle:>+20.1f}{low:>+9.1f}{high:>+7.1f}" if name != first else ""
        rate, cost = median(one.requests_s for one in mine), median(one.cpu_us for one in mine)
        print(f"{name:<18}{rate:>8.0f}{cost:>12.1f}{difference}")


if __name__ == "__main__":
    sys.exit(main())
