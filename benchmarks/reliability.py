"""Servers on a bad day, ours among the peers: near capacity, while the model is replaced, when its process dies.

    .venv/bin/python benchmarks/reliability.py                        # everything, pinned; about 8 minutes
    .venv/bin/python benchmarks/reliability.py --servers slipway,mlserver-batch --secs 2 --fault-s 4 --faults 1

The model is the stand-in for an accelerator (5 ms + 0.1 ms a row), so the best possible is known. Of each server:

- capacity: the most requests a second of a closed loop (wrk) of 64 or 256 connections without a bad answer;
- p99 at 90 % of that, open loop; requests without the right answer count as infinitely late;
- the share of the best possible in those closed loops, for the turnaround of `asgi-hello` in the same run;
- requests that failed for each reload of the model and for each `kill -9` of the process that computes it, at 55 % of
  capacity, open loop: each but a 200 with the right sum within 5 s. A 503 with a Retry-After is counted beside them;
- the longest time without a right answer meanwhile;
- PSS of its processes after the load, and of the one that computes.

Each phase has a fresh server. It does not change what the peers are: `RELOADS` says how each replaces its model.
"""

import argparse
import asyncio
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import servers
from live import RELOADS, WHILE_RELOADING, Live, check_answers, kill, make_repository
from open_loop import Run, measure
from servers import ACCEL, PORT, Server
from serving import load, script_of

SHARE_OF_P99 = 0.9
SHARE_OF_FAULTS = 0.55
CONNECTIONS = 4096
"""At most: whoever comes opens one unless one is free, as independent clients do, and none waits for another's."""
LEAD_S = 2.0
"""Of load before the first fault."""
RECOVERY_S = 20.0
"""How much longer than `--fault-s` a server may take until it answers again."""


class Best(NamedTuple):
    """The most requests a second that one replica with one batch in flight can answer."""

    at: dict[int, float]
    """By connections."""


class Faults(NamedTuple):
    """What some faults cost, each."""

    failed: float
    refused: float
    silence_s: float
    """The longest of all."""
    why: str

    def cells(self) -> list[str]:
        """Of the table."""
        return [f"{self.failed:.0f}", f"{self.refused:.0f}", f"{self.silence_s:.1f}"]


@dataclass
class Row:
    """One server's line, as far as it was measured."""

    name: str
    capacity: float = math.nan
    p99_ms: float = math.nan
    missed: int = 0
    of_best: list[float] = field(default_factory=list)
    reload: Faults | None = None
    crash: Faults | None = None
    pss_mib: tuple[int, int] = (0, 0)

    def line(self) -> str:
        """In markdown."""
        p99 = "none" if math.isinf(self.p99_ms) else f"{self.p99_ms:.0f}"
        cells = [f"{self.capacity:.0f}", p99, f"{self.missed}", *(f"{share:.0%}" for share in self.of_best)]
        if not self.of_best:
            cells = [""] * 5
        cells.append("" if math.isnan(self.capacity) else f"{self.capacity * SHARE_OF_FAULTS:.0f}")
        for faults in (self.reload, self.crash):
            cells += faults.cells() if faults else [""] * 3
        cells += [f"{mib}" if mib else "" for mib in self.pss_mib]
        return f"| {self.name} | {' | '.join(cells)} |"


HEAD = """\
| server | capacity req/s | p99 at 90 %, ms | missed | of the best, 64 | 256 | load req/s \
| failed a reload | refused | silence s | failed a crash | refused | silence s | PSS MiB | of it the worker |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def main() -> int:
    """Print the table, a line as soon as it is measured; the exit status is 1 when one was not."""
    options = parse()
    os.environ["BENCH_MODEL"] = "accel"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    make_repository()
    servers.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not options.no_pin:
        os.sched_setaffinity(0, {1})  # this client; the servers go to core 0
    print(servers.machine(), flush=True)
    notes: list[str] = []
    failed = False
    try:
        best = best_possible(options)
        print(f"best possible: {', '.join(f'{rate:.0f} req/s at {n}' for n, rate in best.at.items())}\n\n{HEAD}")
        for name in options.servers.split(","):
            try:
                for row in rows_of(name, best, options):
                    print(row.line(), flush=True)
                    kinds = {"reload": row.reload, "crash": row.crash}
                    notes += [
                        f"{row.name}, {kind}: {found.why}" for kind, found in kinds.items() if found and found.why
                    ]
            except (RuntimeError, TimeoutError, OSError, subprocess.CalledProcessError) as error:
                failed = True
                print(f"| {name} | {type(error).__name__}: {error} |", flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        servers.stop_all()
    print("\n" + "\n".join(notes))
    return int(failed)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(RELOADS), help="which, comma-separated")
    parser.add_argument("--secs", type=int, default=4, help="seconds of each closed loop, half of the open loop's")
    parser.add_argument("--faults", type=int, default=2, help="reloads, and crashes, of each server")
    parser.add_argument("--fault-s", type=float, default=8.0, help="seconds of load after each")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds of warm-up")
    parser.add_argument("--no-pin", action="store_true", help="let the kernel place server and client")
    return parser.parse_args()


def best_possible(options: argparse.Namespace) -> Best:
    """By arithmetic, with the turnaround of the bare HTTP stack: all at once, or in two halves that take turns."""

    def compute_s(rows: float) -> float:
        return 0.005 + 0.0001 * rows

    at = {}
    with run_of("asgi-hello", ACCEL["asgi-hello"], options) as live:
        for n in (64, 256):
            turnaround_s = 1 / closed_loop(live, n, options)[0]
            together = n / (compute_s(n) + n * turnaround_s)
            halves = n / (2 * max(compute_s(n / 2), n / 2 * turnaround_s))
            at[n] = max(together, halves)
    return Best(at)


def run_of(name: str, server: Server, options: argparse.Namespace) -> Live:
    """A fresh server, for `with`."""
    return Live(name, server, pinned=not options.no_pin)


def closed_loop(live: Live, connections: int, options: argparse.Namespace) -> tuple[float, int]:
    """Good answers a second, and how many were bad."""
    seen = load(live.process.pid, script_of(live.name, live.body), live.url, str(connections), options)
    return max(0.0, seen.requests_s - seen.bad / options.secs), seen.bad


def rows_of(name: str, best: Best, options: argparse.Namespace) -> Iterator[Row]:
    """The line of a server; of ours a second one, for the dispatcher."""
    row = Row(name)
    with run_of(name, ACCEL[name], options) as live:
        check_answers(live)
        loops = {n: closed_loop(live, n, options) for n in best.at}
        row.of_best = [rate / best.at[n] for n, (rate, _) in loops.items()]
        row.capacity = max((rate for rate, bad in loops.values() if not bad), default=loops[64][0])
        rate = SHARE_OF_P99 * row.capacity
        run = asyncio.run(measure(live.url, live.questions(), rate, 2 * options.secs, CONNECTIONS))
        row.p99_ms, row.missed = run.quantile_ms(0.99), run.sent - run.outcomes["ok"]
        row.pss_mib = servers.pss_mib(servers.tree(live.process.pid)), servers.pss_mib([live.computes()])
    with run_of(name, WHILE_RELOADING.get(name, ACCEL[name]), options) as live:
        row.reload = asyncio.run(under_faults(live, row.capacity, RELOADS[name], options))
    with run_of(name, ACCEL[name], options) as live:
        row.crash = asyncio.run(under_faults(live, row.capacity, lambda live: kill(live.computes()), options))
    yield row
    if name == "slipway":
        with run_of(name, ACCEL[name], options) as live:
            crash = under_faults(live, row.capacity, lambda live: kill(live.worker("dispatcher".__eq__)), options)
            yield Row("slipway, its dispatcher killed", crash=asyncio.run(crash))


async def under_faults(
    live: Live, capacity: float, fault: Callable[[Live], None], options: argparse.Namespace
) -> Faults:
    """Constant load, and faults one after another; the next when the server answers again."""
    run = Run(("127.0.0.1", PORT), live.questions(), SHARE_OF_FAULTS * capacity, CONNECTIONS)
    length = LEAD_S + options.faults * (options.fault_s + RECOVERY_S)
    going = asyncio.create_task(run.go(length))
    await asyncio.sleep(LEAD_S)
    before = run.failed
    trouble = ""
    done = 0
    while done < options.faults and not trouble:
        done += 1
        began = time.monotonic()
        try:
            await asyncio.to_thread(fault, live)
        except (RuntimeError, TimeoutError, OSError) as error:
            trouble = f"{type(error).__name__}: {error}"
        await asyncio.sleep(max(0.0, began + options.fault_s - time.monotonic()))
        trouble = trouble or await recovery(run)
    run.is_over.set()
    await going
    said = Counter({how: n for how, n in run.outcomes.items() if n and how not in {"ok", "refused"}})
    why = ", ".join(f"{n} {how}" for how, n in said.most_common())
    early = f"; {before} failed before the first" if before else ""
    silence_s = math.inf if trouble else run.silence_s
    told = "; ".join(part for part in (f"{why} in {done}{early}" if why else "", trouble) if part)
    return Faults(run.failed / done, run.outcomes["refused"] / done, silence_s, told)


async def recovery(run: Run) -> str:
    """Waits until right answers come again; what to say when they do not."""
    deadline = time.monotonic() + RECOVERY_S
    while time.monotonic() < deadline:
        if time.monotonic() - run.last_ok < 0.5:
            return ""
        await asyncio.sleep(0.1)
    return "it did not answer again"


if __name__ == "__main__":
    sys.exit(main())
