"""How near the batching decisions come to a scheduler that knows the future, by length of the deadline.

    .venv/bin/python benchmarks/simulation.py

Prints the table of `docs/batching.md`: the worst share of an upper bound of the best, over arrivals from a fifth of the
capacity to three times it. The same figures on every machine: time is virtual and the seed fixed.
"""

from slipway_runtime.simulation import LinearCost, Setup, bursts, poisson, study

COST = LinearCost(0.005, 0.0001)
FULL_S = COST.mean_s(64)
ARRIVALS = 8_000


def main() -> None:
    """One line a deadline."""
    print(f"{'deadline / full batch':>22}{'Poisson':>10}{'bursts':>10}")
    for share in (1.2, 1.5, 2.0, 2.2, 2.5, 3.0, 4.0):
        setup = Setup(deadline_s=share * FULL_S)
        calm = [study(poisson(rate, ARRIVALS / rate, 7), COST, setup)[0] for rate in (1e3, 3e3, 5e3, 8e3, 16e3)]
        wild = [study(bursts(rate, ARRIVALS / rate, 7), COST, setup)[0] for rate in (1e3, 3e3, 5e3, 8e3)]
        print(f"{share:>22}{min(s.of_best for s in calm):>10.1%}{min(s.of_best for s in wild):>10.1%}")


if __name__ == "__main__":
    main()
