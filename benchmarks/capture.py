"""What capture costs: a request on the event loop's thread, a record in the writing thread, a row of Parquet.

    uv run python benchmarks/capture.py

Each figure is the best of five rounds, less the cost of an empty call. "at 1 %" and "at 100 %" are `CaptureLog.offer`
alone, with the ring emptied between rounds; the writing thread's cost comes on top, in another thread of the same
interpreter, and is stated on its own line. `both threads` is wall time of offering with that thread at work.
"""

import os
import random
import secrets
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from slipway_bundle.redaction import Redact
from slipway_signals import Slots
from slipway_signals.capture import CaptureConfig, CapturedModel, CaptureLog
from slipway_signals.capture.compact import compact
from slipway_signals.capture.pseudonyms import Pseudonymiser
from slipway_signals.capture.sampling import is_sampled, threshold_of

ROUNDS = 5
CALLS = 20_000
NOW = 1_795_284_000.0

Wide = msgspec.defstruct("Wide", [(f"f{number}", float) for number in range(50)])
IDS = [secrets.token_hex(16) for _ in range(CALLS)]


class Customer(Struct):
    """The churn service's row, and a person's name."""

    tenure_months: float
    monthly_charges: float
    support_calls: int
    income: float | None
    contract: str
    email: Annotated[str, Redact("hash")]


class Risk(Struct):
    """Its answer."""

    churn_probability: float


def capturing(folder: Path, rate: float, takes: Any) -> CaptureLog:
    """A log of one model whose thread is not started."""
    slots, fd = Slots.create()
    os.close(fd)
    config = CaptureConfig(enabled=True, folder=str(folder), rate=rate, ring_records=CALLS, ring_bytes=10**9)
    return CaptureLog(config, [CapturedModel(name="churn", version="1", takes=takes, gives=Risk)], slots)


def best_us(call: Callable[[], object], calls: int, between: Callable[[], object] = lambda: None) -> float:
    """Microseconds a call of the best round, where one `call` is `calls` of them."""
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(timeit.timeit(call, number=1) / calls * 1e6)
        between()
    return min(rounds)


def offers(log: CaptureLog, rows: list[Any]) -> Callable[[], None]:
    """Offers one request for each id."""
    offer, answer = log.offer, Risk(0.3)
    pairs = list(zip(IDS, rows, strict=True))

    def run() -> None:
        for one, row in pairs:
            offer("churn", one, "c-1042", row, answer, 200, 0.004, None, NOW)

    return run


def nothing_us() -> float:
    """The same loop with a call that does nothing."""

    def offer(*_: object) -> None:
        return

    def run() -> None:
        for one, row in zip(IDS, IDS, strict=True):
            offer("churn", one, "c-1042", row, None, 200, 0.004, None, NOW)

    return best_us(run, CALLS)


def main() -> None:
    """Print the table."""
    draw = random.Random(7)  # noqa: S311  # no secret is drawn
    customer = [Customer(draw.random(), draw.random(), 1, None, "monthly", f"{draw.random()}@example.org") for _ in IDS]
    wide = [Wide(*[draw.random() for _ in range(50)]) for _ in IDS]
    loop = nothing_us()
    threshold, pseudonyms = threshold_of(0.01), Pseudonymiser("k1", secrets.token_bytes(32))
    found: list[tuple[str, float, str]] = [
        ("is_sampled", best_us(lambda: [is_sampled(one, threshold) for one in IDS], CALLS), ""),
        ("pseudonym (HMAC-SHA256)", best_us(lambda: [pseudonyms.of(one) for one in IDS], CALLS), ""),
    ]
    with tempfile.TemporaryDirectory() as name:
        for kind, rows, takes in (("churn row", customer, Customer), ("50 floats", wide, Wide)):
            for rate, limit in ((0.0, ""), (0.01, "1.0"), (1.0, "")):
                folder = Path(name, f"{kind}-{rate}")
                log = capturing(folder, rate, takes)
                cost = best_us(offers(log, rows), CALLS, log._ring.clear) - loop  # noqa: SLF001 - the ring's own cost
                found.append((f"offer, {kind}, at {rate:.0%}", cost, limit))
                if rate == 1.0:
                    found += thread_rows(log, rows, kind, folder)
    print(f"{'what':<44} {'µs':>10}  limit")
    for what, cost, limit in found:
        print(f"{what:<44} {cost:>10.3f}  {limit}")


def thread_rows(log: CaptureLog, rows: list[Any], kind: str, folder: Path) -> list[tuple[str, float, str]]:
    """The writing thread and compaction, at 100 %."""
    writer, ring, run = log._writer, log._ring, offers(log, rows)  # noqa: SLF001 - one thread's share of the work
    costs = []
    for _ in range(ROUNDS):
        run()
        started = time.perf_counter()
        writer.turn(ring, time.monotonic())
        costs.append((time.perf_counter() - started) / CALLS * 1e6)
    log.start()
    both = best_us(run, CALLS)
    log.close(30.0)
    size = sum(path.stat().st_size for path in (folder / "closed").iterdir())
    started = time.perf_counter()
    report = compact(folder, CaptureConfig(), NOW)
    packing = (time.perf_counter() - started) / report.rows * 1e6
    parquet = sum(path.stat().st_size for path in (folder / "data").rglob("*.parquet"))
    print(f"{kind}: {size / report.rows:.0f} bytes a record in a segment, {parquet / report.rows:.0f} in Parquet")
    return [
        (f"writing thread, {kind}, a record", statistics.median(costs), ""),
        (f"offer beside the writing thread, {kind}", both, ""),
        (f"compaction, {kind}, a record (other process)", packing, ""),
    ]


if __name__ == "__main__":
    main()
