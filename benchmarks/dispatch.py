"""What the dispatcher's decisions cost a request: microseconds of offer, plan and landed, by the size of the batches.

One pool, one replica that is always busy, batches of 5 ms + 0.1 ms a row in virtual time, so that every request is
judged against a batch in flight: the path of a loaded dispatcher. Figures are processor time for each ticket; a batch
leaves while the next one is offered. It measures no socket, no frame and no payload.

    python benchmarks/dispatch.py [--tickets 200000] [--keys 1]
"""

import argparse
import sys
import time

from slipway_runtime.dispatch import Dispatcher, ModelSpec, PoolSpec
from slipway_runtime.request import Ticket

BATCHES = (1, 8, 64)
ROUNDS = 3
TIMEOUT_S = 1.0


def cost_s(rows: int) -> float:
    """The model."""
    return 0.005 + 0.0001 * rows


def loaded(size: int, keys: int) -> Dispatcher:
    """A dispatcher with one pool that knows its costs."""
    dispatcher = Dispatcher()
    dispatcher.add_pool(PoolSpec(name="pool", models=(ModelSpec(name="model", max_rows=size, gather_s=0.0),)))
    for key in range(keys):
        dispatcher.teach(
            "pool", "model", b"%d" % key, [(rows, cost_s(rows)) for rows in (1, 8, 64) if rows <= size for _ in "1234"]
        )
    dispatcher.join(1, "pool", 0.0)
    return dispatcher


def clock_s() -> float:
    """Seconds that one reading of the clock costs."""
    began = time.process_time()
    for _ in range(10_000):
        time.process_time()
    return (time.process_time() - began) / 10_000


def measure(size: int, keys: int, tickets: int) -> tuple[float, float, float]:
    """Microseconds for each ticket of offer, plan and landed."""
    reading_s = clock_s()
    dispatcher = loaded(size, keys)
    now, flight = 0.0, 0
    spent = [0.0, 0.0, 0.0]
    clock = time.process_time  # a busy machine would blur elapsed time
    for turn in range(tickets // size):
        key = b"%d" % (turn % keys)
        batch = [Ticket(b"row", 1, now + TIMEOUT_S, now) for _ in range(size)]
        began = clock()
        for ticket in batch:
            refusal = dispatcher.offer("pool", "model", key, ticket, now)
        offered = clock()
        now += cost_s(size)
        landed = dispatcher.landed(flight, now)
        ended = clock()
        plan = dispatcher.plan(now)
        planned = clock()
        if refusal is not None or len(plan.batches) != 1 or (landed is None and turn):
            msg = f"the load is not what it should be: {refusal}, {plan}"
            raise RuntimeError(msg)
        flight = plan.batches[0].number
        spent[0] += offered - began - reading_s
        spent[1] += planned - ended - reading_s
        spent[2] += ended - offered - reading_s
    offer, plan_s, land = (seconds / (tickets // size * size) * 1e6 for seconds in spent)
    return offer, plan_s, land


def main(tickets: int, keys: int) -> None:
    """Print the table."""
    print(f"{'batch':>8} {'offer us':>9} {'plan us':>9} {'landed us':>10} {'us/ticket':>10}")
    for size in BATCHES:
        offer, plan, land = min((measure(size, keys, tickets) for _ in range(ROUNDS)), key=sum)
        print(f"{size:>8} {offer:>9.2f} {plan:>9.2f} {land:>10.2f} {offer + plan + land:>10.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=1, help="keys of the model, taken in turn by the batches")
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, {arguments.tickets} tickets, {arguments.keys} keys, best of {ROUNDS}")
    main(arguments.tickets, arguments.keys)
