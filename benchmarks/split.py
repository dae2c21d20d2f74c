"""What a split costs: a request through it beside one that is asked directly, and its HTTP client beside others.

    .venv/bin/python benchmarks/split.py                 # needs wrk; about 2 minutes
    .venv/bin/python benchmarks/split.py --clients       # the clients alone, in this process

Two real servers of the bench's service are the arms. A variant is loaded by wrk for some seconds in turns with the
others; its cost is the CPU time of the split's process per request, which others on the machine hardly change. The
latency that it adds is the difference of medians at one connection, between turns that follow each other.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import httpx
import uvloop
from servers import SLIPWAY, cpu_s, found, machine, stop
from serving import milliseconds

from slipway_serve.split.arm_client import ArmClient

FOLDER: Final = Path(__file__).parent / "service"
BODY: Final = json.dumps({f"f{n}": round(0.1257 * n - 1.1, 4) for n in range(20)})
START_S: Final = 60.0
TOGETHER: Final = 32
VARIANTS: Final = {
    "weights": "",
    "sticky header": '[sticky]\nheader = "X-User"\n',
    "sticky field": '[sticky]\nfield = "f3"\n',
    "windows": '[windows]\nfile = "windows-{n}.jsonl"\nseconds = 1\n',
    "shadow, windows": '[shadow]\nin_flight = 64\nqueue = 4096\n[windows]\nfile = "windows-{n}.jsonl"\nseconds = 1\n',
}


class Turn(NamedTuple):
    """One load of one variant."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    bad: int


def main() -> int:
    """Start the arms, load each variant in turns, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--secs", type=int, default=2, help="seconds of a turn")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--clients", action="store_true", help="only the HTTP clients")
    options = parser.parse_args()
    print(machine(), flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stable, candidate = (stack.enter_context(served(folder, name)) for name in ("stable", "candidate"))
        compare_clients(stable[1], options.rounds)
        if options.clients:
            return 0
        up = {"direct": stable}
        for number, (name, tables) in enumerate(VARIANTS.items()):
            weight = 0 if "shadow" in name else 50
            text = tables.format(n=number)
            up[name] = stack.enter_context(split(folder, number, text, (stable[1], candidate[1]), weight))
        script = folder / "ask.lua"
        script.write_text(
            "wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.headers['X-User']='u-17'\n"
            f"wrk.body=[==[{BODY}]==]\n"
        )
        many: dict[str, list[Turn]] = {name: [] for name in up}
        one: dict[str, list[Turn]] = {name: [] for name in up}
        for _ in range(options.rounds):
            for name, (pid, url) in up.items():
                many[name].append(load(pid, url, script, options.connections, options.secs))
                one[name].append(load(pid, url, script, 1, options.secs))
        show(many, one)
    return 0


@contextmanager
def served(folder: Path, name: str) -> Iterator[tuple[int, str]]:
    """A server of the bench's service: its process and address."""
    command = [SLIPWAY, "serve", str(FOLDER), "--port", "0", "--admin-port", "0"]
    with started(command, folder / f"{name}.log", folder) as up:
        yield up


@contextmanager
def split(folder: Path, number: int, text: str, urls: tuple[str, str], weight: int) -> Iterator[tuple[int, str]]:
    """A split before both of them."""
    file = folder / f"split-{number}.toml"
    arms = f'[arms.stable]\nurl = "{urls[0]}"\nweight = 50\n[arms.candidate]\nurl = "{urls[1]}"\nweight = {weight}\n'
    file.write_text(f'repeatable = ["/predict"]\n{arms}{text}[server]\nport = 0\nadmin_port = 0\n')
    with started([SLIPWAY, "split", str(file)], folder / f"split-{number}.log", folder) as up:
        yield up


@contextmanager
def started(command: list[str], log: Path, folder: Path) -> Iterator[tuple[int, str]]:
    """A process that says where it listens."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while (url := found(r"at +(http\S+)", log.read_text())) == "0":
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command} did not start: {log.read_text()}")
            time.sleep(0.05)
        yield process.pid, url
    finally:
        stop(process.pid)


def load(pid: int, url: str, script: Path, connections: int, secs: int) -> Turn:
    """One run of wrk."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{secs}s", "--latency", "-s", str(script), f"{url}/predict"]
    before = cpu_s(pid)
    report = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    used = cpu_s(pid) - before
    requests = max(1, int(found(r"(\d+) requests in", report)))
    p50, p99 = (milliseconds(found(rf"(?m)^\s+{q}%\s+(\S+)", report)) for q in (50, 99))
    bad = int(found(r"Non-2xx or 3xx responses: (\d+)", report))
    return Turn(float(found(r"Requests/sec:\s+([\d.]+)", report)), p50, p99, used / requests * 1e6, bad)


def show(many: dict[str, list[Turn]], one: dict[str, list[Turn]]) -> None:
    """Medians over the turns."""
    print(f"{'':<18}{'req/s':>8}{'cpu µs/req':>12}{'bad':>5}{'p50 of one, ms':>16}{'more than direct':>18}{'p99':>8}")
    for name, turns in many.items():
        rate, cost = median(turn.requests_s for turn in turns), median(turn.cpu_us for turn in turns)
        alone = median(turn.p50_ms for turn in one[name])
        more = median(mine.p50_ms - direct.p50_ms for mine, direct in zip(one[name], one["direct"], strict=True))
        p99 = median(turn.p99_ms for turn in one[name])
        bad = sum(turn.bad for turn in (*turns, *one[name]))
        print(f"{name:<18}{rate:>8.0f}{cost:>12.0f}{bad:>5}{alone:>16.2f}{more:>+18.2f}{p99:>8.2f}")


def compare_clients(url: str, rounds: int) -> None:
    """CPU µs of this process per request, of three HTTP clients in turns."""
    costs = uvloop.run(_clients(url, rounds))
    print(f"{'HTTP client':<18}{'cpu µs/req':>12}")
    for name, turns in costs.items():
        print(f"{name:<18}{median(turns):>12.0f}")


async def _clients(url: str, rounds: int) -> dict[str, list[float]]:
    body = BODY.encode()
    headers = [(b"content-type", b"application/json"), (b"x-user", b"u-17")]
    own = ArmClient(url, connect_s=1.0, connections=TOGETHER)

    async def by_own() -> None:
        async with own.ask("POST", b"/predict", headers, body, 5.0) as answer:
            if answer.status != 200 or b"probability" not in await answer.chunk():
                raise SystemExit(f"no answer: {answer.status}")

    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

        async def by_httpx() -> None:
            async with client.stream("POST", "/predict", content=body, headers=headers) as answer:
                if answer.status_code != 200 or b"probability" not in await answer.aread():
                    raise SystemExit(f"no answer: {answer.status_code}")

        asking: dict[str, Callable[[], Awaitable[None]]] = {"ArmClient": by_own, "httpx": by_httpx}
        costs: dict[str, list[float]] = {name: [] for name in asking}
        for _ in range(rounds):
            for name, ask in asking.items():
                costs[name].append(await _cost(ask))
    own.close()
    return costs


async def _cost(ask: Callable[[], Awaitable[None]], each: int = 40) -> float:
    async def some() -> None:
        for _ in range(each):
            await ask()

    before = time.process_time()
    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    return (time.process_time() - before) / (each * TOGETHER) * 1e6


if __name__ == "__main__":
    sys.exit(main())
