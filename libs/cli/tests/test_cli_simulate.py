"""`slipway simulate`: a pool is sized before anything runs."""

from pathlib import Path

import pytest
from cli_commands import Slipway

LOAD = ("simulate", "--rate", "2000", "--seconds", "1", "--cost", "5+0.1")


def test_a_run_is_told_in_figures_and_bars(slipway: Slipway) -> None:
    said = slipway(*LOAD)

    assert said.status == 0
    assert "of an upper bound of the best possible" in said.out
    assert any(line.strip().startswith("9-16 rows") and "#" in line for line in said.out.splitlines())


def test_json_has_the_figures(slipway: Slipway) -> None:
    figures = slipway(*LOAD, "--json").document

    assert figures["offered"] == figures["in_time"] + figures["late"] + figures["expired"] + figures["refused"]
    assert 0.95 <= figures["of_best"] <= 1.0
    assert sum(figures["batches"].values()) > 0


def test_a_pool_is_sized_for_a_promise(slipway: Slipway) -> None:
    said = slipway("simulate", "--rate", "12000", "--seconds", "1", "--cost", "5+0.1", "--p99-ms", "50")

    assert said.out.startswith("3 replicas of batches of 64 for "), said.out


def test_the_run_is_drawn(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway(*LOAD, "--plot", str(tmp_path / "run.svg"))

    assert said.status == 0
    assert (tmp_path / "run.svg").read_text().startswith("<svg")


def test_a_recorded_trace_is_replayed(slipway: Slipway, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("".join(f"{number / 100},1\n" for number in range(200)))

    figures = slipway("simulate", "--trace", str(trace), "--cost", "5+0.1", "--json").document

    assert figures["offered"] == figures["in_time"] == 200


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cost", "slow"), "cost is 'slow', expected FIXED+ROW"),
        (("--cost", "5+0.1", "--trace", "nowhere.csv"), "trace is 'nowhere.csv', expected poisson, bursts"),
        (("--cost", "5+0.1", "--p99-ms", "3"), "one row alone takes"),
        (("--cost", "5+0.1", "--rate", "1e9"), "too long"),
        ((), "--cost"),
    ],
)
def test_what_cannot_be_simulated_says_why(slipway: Slipway, arguments: tuple[str, ...], told: str) -> None:
    said = slipway("simulate", *arguments)

    assert said.status == 2
    assert told in said.err
