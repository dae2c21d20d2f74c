"""`slipway load find-capacity`: the highest rate at which a server keeps its promises."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli import loading
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_signals.gate.capacity import Capacity, Search, Step

BAR = 30


@click.command(
    cls=Verb,
    name="find-capacity",
    short_help="Find the highest rate that keeps the promises.",
    help="Find the highest rate at which a server keeps its promises: those of slo.yaml, or --p99-ms.\n\n"
    "Rates are doubled until one breaks, then halved between; the load is real, so ask a server that nobody uses. "
    "Exit 1: not even the lowest rate held.",
    examples=(
        ("slipway load find-capacity --url http://127.0.0.1:8000 --slo services/churn/slo.yaml", "its own promises"),
        ("slipway load find-capacity --url http://127.0.0.1:8000 --p99-ms 50 --draw curve.html", "with the curve"),
    ),
)
@click.option("--url", help="The server, http://HOST:PORT.")
@click.option("--admin", help="Its admin port.")
@click.option("--slo", type=click.Path(path_type=Path, dir_okay=False), help="The service's slo.yaml.")
@click.option("--p99-ms", type=click.FloatRange(0, min_open=True), help="Instead: 99 % within this.")
@click.option("--lowest", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="First rate.")
@click.option("--highest", type=click.FloatRange(0, min_open=True), default=10_000.0, show_default=True, help="Last.")
@click.option("--step-s", type=click.FloatRange(1), default=5.0, show_default=True, help="Seconds of each try.")
@click.option("--draw", type=click.Path(path_type=Path, dir_okay=False), help="Draw the curve into this HTML file.")
@loading.PLAN
@loading.PATH
@loading.PAYLOADS
@loading.WORKERS
@loading.KEY
@click.pass_obj
def find_capacity(  # noqa: PLR0917  # click passes them by name
    terminal: Terminal,
    url: str | None,
    admin: str | None,
    slo: Path | None,
    p99_ms: float | None,
    lowest: float,
    highest: float,
    step_s: float,
    draw: Path | None,
    plan: Path | None,
    path: str | None,
    payloads: Path | None,
    workers: int | None,
    key_env: str | None,
) -> None:
    """Make the search, try its rates, show the curve."""
    import msgspec

    from slipway_signals.gate.capacity import Step, capacity_of
    from slipway_signals.gate.capacity_page import render_capacity

    search = _search(slo, p99_ms, path, lowest, highest, step_s)
    values = {"workers": workers, "rate": lowest, "caps": {"rate": max(highest, lowest)}, "max_in_flight": 2_000}
    followed = loading.plan_of(plan, {"stable": (url, admin)}, key_env, path, payloads, values)
    steps: list[Step] = []

    def heard(line: bytes) -> None:
        steps.append(msgspec.json.decode(line, type=Step))
        terminal.say(_line(steps[-1]))

    loading.follow("find-capacity", followed, heard, msgspec.json.encode(search))
    found = capacity_of(search, steps)
    if draw is not None:
        draw.write_text(render_capacity(found, followed.arms["stable"].url), encoding="utf-8")
    terminal.document(found)
    _show(terminal, found)
    if draw is not None:
        terminal.say(f"drawn into {draw}")
    if found.rate is None:
        raise click.exceptions.Exit(1)


def _search(
    slo: Path | None, p99_ms: float | None, path: str | None, lowest: float, highest: float, step_s: float
) -> "Search":
    from slipway_signals.gate.capacity import Search
    from slipway_signals.gate.margins import promises_of
    from slipway_signals.slo.openslo import load_slos

    if (slo is None) == (p99_ms is None):
        raise click.UsageError("give --slo or --p99-ms, one of them")
    common = {"lowest": lowest, "highest": highest, "step_s": step_s}
    if slo is None:
        return Search(threshold_s=(p99_ms or 0.0) / 1e3, **common)
    promises = promises_of(load_slos(slo), "", [path or "/predict"])
    if promises.latency_threshold_s is None or promises.latency_budget is None:
        raise click.UsageError(f"{str(slo)!r} has no objective of latency about {path or '/predict'}: give --p99-ms")
    budget = promises.error_budget
    return Search(
        threshold_s=promises.latency_threshold_s,
        quantile=1.0 - promises.latency_budget,
        success=1.0 - (0.001 if budget is None else budget),
        **common,
    )


def _line(step: "Step") -> str:
    p99 = "nobody answered" if step.p99_s is None else f"p99 {step.p99_s * 1e3:.1f} ms"
    return f"{step.rate:10,.0f} requests a second: {p99}, {step.failed:.2%} failed: {step.why}"


def _show(terminal: Terminal, found: "Capacity") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("rate", "p50", "p95", "p99", "failed", "", ""):
        table.add_column(title, justify="right" if title else "left")
    known = [step.p99_s for step in found.steps if step.p99_s is not None]
    top = min(max(known, default=1.0), 4.0 * found.search.threshold_s)
    for step in sorted(found.steps, key=lambda step: step.rate):
        times = ["-" if time_s is None else f"{time_s * 1e3:.1f} ms" for time_s in (step.p50_s, step.p95_s, step.p99_s)]
        bar = "#" * max(1, round(BAR * min(top, step.p99_s or top) / top))
        marks = [word for word, is_so in (("held", step.held), ("knee", step.rate == found.knee)) if is_so]
        table.add_row(f"{step.rate:,.0f}", *times, f"{step.failed:.2%}", bar, " ".join(marks) or "broke")
    terminal.draw(table)
    promise = f"p{100 * found.search.quantile:g} within {found.search.threshold_s * 1e3:g} ms"
    terminal.result("no rate held" if found.rate is None else f"{found.rate:,.0f} requests a second with {promise}")
    terminal.say(found.ended)
