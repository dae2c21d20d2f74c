"""One table at the end of a game day, on stdout and as JSON in pytest's cache folder."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

PROPERTY = "gameday"
COLUMNS = ("detect_s", "mitigate_s", "resolve_s")


@pytest.fixture(autouse=True)
def _is_in_the_table(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """A drill has a line also when it fails before it has anything to tell."""
    if request.node.get_closest_marker(PROPERTY):
        record_property(PROPERTY, {"fault": request.node.name})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every drill that came to its end, and those that did not."""
    reports = [
        report
        for status in ("passed", "failed", "error")
        for report in terminalreporter.getreports(status)
        if PROPERTY in dict(report.user_properties) and (report.when == "call" or not report.passed)
    ]
    if not reports:
        return
    lines = sorted((_line(report) for report in reports), key=lambda line: str(line["fault"]))
    cache = getattr(config, "cache", None)  # None with `-p no:cacheprovider`
    folder = cache.mkdir("gameday") if cache else None
    console = Console(width=132, force_terminal=False)
    console.print(_table(lines))
    if folder is not None:
        (folder / "gameday.json").write_bytes(msgspec.json.format(msgspec.json.encode(lines)))
        console.print(f"as JSON: {folder / 'gameday.json'}", soft_wrap=True)


def _line(report: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(report.user_properties)[PROPERTY]
    return {**found, "is_green": bool(report.passed)}


def _table(lines: list[dict[str, Any]]) -> Table:
    table = Table(title="game day")
    for name in ("fault", "told", "kept back", "cause"):
        table.add_column(name)
    for name in ("detect s", "mitigate s", "resolve s"):
        table.add_column(name, justify="right")
    table.add_column("")
    for line in lines:
        words = [", ".join(line.get(key, ())).replace("Slipway", "") for key in ("told", "kept_back")]
        times = [f"{line[key]:.1f}" if key in line else "–" for key in COLUMNS]
        table.add_row(line["fault"], *words, line.get("cause", "–"), *times, "green" if line["is_green"] else "RED")
    return table
