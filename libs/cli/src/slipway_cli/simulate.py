"""`slipway simulate`: how a runner pool would do under a load, or how large it must be.

Words and tables only; `slipway_runtime.simulation` runs the decisions that serve, in virtual time.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_runtime.simulation import Arrival, Study

BAR: Final = 40
"""Columns of the longest bar."""


@click.command(
    cls=Verb,
    short_help="Simulate a runner pool, or find how large it must be.",
    help="Simulate a runner pool under a load, with the code that decides in production and in virtual time; or, with "
    "--p99-ms, find the fewest replicas and the smallest batches that answer 99 % of the requests within that time.\n\n"
    "The cost of a batch is FIXED+ROW in milliseconds, or measured points ROWS:MS,… . A trace is `poisson`, `bursts`, "
    "`diurnal`, or a file with one arrival a line: SECONDS or SECONDS,ROWS.",
    examples=(
        ("slipway simulate --rate 2000 --cost 5+0.1", "one replica at 2,000 requests a second"),
        ("slipway simulate --rate 1000 --cost 5+0.1 --p99-ms 50", "how many replicas, what batches"),
        ("slipway simulate --trace bursts --rate 3000 --cost 1:5.1,64:11.4 --plot run.svg", "measured costs, drawn"),
    ),
)
@click.option("--cost", "cost_text", required=True, metavar="COST", help="Of a batch, in ms: 5+0.1 or 1:5.1,64:11.4.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=1_000.0, show_default=True, help="Requests a second."
)
@click.option(
    "--trace", default="poisson", show_default=True, metavar="TRACE", help="poisson, bursts, diurnal or a file."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Length of a made trace.",
)
@click.option("--replicas", type=click.IntRange(1, 1024), default=1, show_default=True, help="Runner processes.")
@click.option(
    "--max-rows", type=click.IntRange(1, 65_536), default=64, show_default=True, help="Rows of a batch at most."
)
@click.option(
    "--deadline-ms", type=click.FloatRange(0, min_open=True), default=300.0, show_default=True, help="Of each request."
)
@click.option(
    "--gather-ms", type=click.FloatRange(0), default=2.0, show_default=True, help="Longest wait for more rows."
)
@click.option(
    "--overhead-ms", type=click.FloatRange(0), default=0.2, show_default=True, help="Of a batch, beside its cost."
)
@click.option("--noise", type=click.FloatRange(0, 2), default=0.05, show_default=True, help="Of the cost, as a share.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same run.")
@click.option("--p99-ms", type=click.FloatRange(0, min_open=True), help="Find the smallest pool that keeps this.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the run into this SVG file.")
@click.pass_obj
def simulate(  # noqa: PLR0917  # click passes them by name
    terminal: Terminal,
    cost_text: str,
    rate: float,
    trace: str,
    seconds: float,
    replicas: int,
    max_rows: int,
    deadline_ms: float,
    gather_ms: float,
    overhead_ms: float,
    noise: float,
    seed: int,
    p99_ms: float | None,
    plot: Path | None,
) -> None:
    """Make the load, run it, show it."""
    import msgspec

    from slipway_runtime.simulation import Setup, choose, draw, parse_cost, study, study_of

    arrivals = _arrivals(trace, rate, seconds, seed)
    cost = parse_cost(cost_text, noise)
    setup = Setup(
        replicas=replicas,
        max_rows=max_rows,
        gather_s=gather_ms / 1e3,
        deadline_s=(p99_ms or deadline_ms) / 1e3,
        overhead_s=overhead_ms / 1e3,
        seed=seed,
    )
    if p99_ms is None:
        figures, outcome = study(arrivals, cost, setup)
    else:
        choice = choose(arrivals, cost, setup, within_s=p99_ms / 1e3)
        setup = msgspec.structs.replace(setup, replicas=choice.replicas, max_rows=choice.max_rows)
        outcome = choice.outcome
        figures = study_of(outcome, arrivals, cost, setup)
    terminal.document(figures)
    if p99_ms is not None:
        noun = "replica" if setup.replicas == 1 else "replicas"
        load = f"{figures.offered_per_s:,.0f} requests a second, 99 % within {p99_ms:g} ms"
        terminal.result(f"{setup.replicas} {noun} of batches of {setup.max_rows} for {load}")
    _show(terminal, figures)
    if plot is not None:
        plot.write_text(draw(f"{trace}, {figures.offered_per_s:,.0f} requests a second", arrivals, outcome))
        terminal.say(f"drawn into {plot}")


def _arrivals(trace: str, rate: float, seconds: float, seed: int) -> "list[Arrival]":
    from slipway_runtime.simulation import bursts, decode_trace, diurnal, poisson

    match trace:
        case "poisson":
            return poisson(rate, seconds, seed)
        case "bursts":
            return bursts(rate, seconds, seed)
        case "diurnal":
            return diurnal(rate, seconds, seed)
    path = Path(trace)
    if not path.is_file():
        raise click.UsageError(f"trace is {trace!r}, expected poisson, bursts, diurnal or a file that is there")
    with path.open(encoding="utf-8", errors="replace") as lines:
        return decode_trace(lines, trace)


def _show(terminal: Terminal, figures: "Study") -> None:
    from rich.table import Table

    best = "of the best possible" if figures.is_best_exact else "of an upper bound of the best possible"
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("offered", f"{figures.offered:,} requests, {figures.offered_per_s:,.0f} a second"),
        ("in time", f"{figures.in_time:,}, {figures.goodput_per_s:,.0f} a second ({figures.of_best:.1%} {best})"),
        ("not", f"{figures.refused:,} refused, {figures.expired:,} expired, {figures.late:,} late"),
        ("latency", _latency(figures)),
        ("capacity", f"{figures.capacity_per_s:,.0f} rows a second in full batches"),
        ("busy", f"{figures.utilisation:.0%} of {figures.replicas} replica{'' if figures.replicas == 1 else 's'}"),
    ):
        table.add_row(name, value)
    longest = max(figures.batches.values(), default=1)
    table.add_row("batches", "")
    for rows, count in figures.batches.items():
        table.add_row(f"  {rows} rows", f"{'#' * max(1, round(BAR * count / longest))} {count:,}")
    terminal.draw(table)


def _latency(figures: "Study") -> str:
    if figures.p50_ms is None or figures.p99_ms is None:
        return "nobody was answered"
    return f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms"
