"""The report of a gate in a real browser: all can use it, a phone shows it whole, it asks nobody.

Accessibility is judged by axe-core 4.14.1 (axe/, https://github.com/dequelabs/axe-core).
"""

import gzip
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from chromium_pipe import Tab, browser
from gate_evidence import REFUSED, evidence_of
from gate_windows import Arms

from slipway_signals.gate.report.page import render_page

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]

AXE = Path(__file__).parent / "axe" / "axe-4.14.1.min.js.gz"
RUN_AXE = "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations))"
CUT_OFF = """JSON.stringify([...document.querySelectorAll("main *")]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
    .filter((one) => !one.closest("svg, .unseen, pre, .scroll"))
    .map((one) => one.textContent.trim().slice(0, 40)))"""
OVERLAPS = """JSON.stringify([...document.querySelectorAll(".field")].filter((field) => field.checkVisibility())
    .flatMap((field) => ["x", "y"].map((axis) => {
        const marks = [...field.querySelectorAll(`.${axis}`)].map((one) => one.getBoundingClientRect());
        const [from, to] = axis === "x" ? ["left", "right"] : ["top", "bottom"];
        marks.sort((one, other) => one[from] - other[from]);
        return marks.filter((one, at) => at && marks[at - 1][to] > one[from] + 1).length; }))
    .filter((count) => count))"""
"""Words on an axis that lie on each other."""
RUNS = {
    "slow": partial(Arms, 2, slower=1.3),
    "good": partial(Arms, 1),
    "starved": partial(Arms, 4, rate=20),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    made = {kind: evidence_of(arms().windows(15)) for kind, arms in RUNS.items()}
    made["refused"] = evidence_of(checks=(REFUSED,))
    for kind, evidence in made.items():
        (folder / f"{kind}.html").write_text(render_page(evidence, digest=f"sha256:{'e' * 64}", signer="release"))
    return {kind: (folder / f"{kind}.html").as_uri() for kind in made}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", list(RUNS))
def test_axe_finds_nothing(tab: Tab, pages: dict[str, str], kind: str, is_dark: bool) -> None:
    tab.open(pages[kind], is_dark=is_dark)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    tab.run(gzip.decompress(AXE.read_bytes()).decode())
    violations = json.loads(tab.run(RUN_AXE))

    assert [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in violations] == []


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("kind", ["slow", "refused"])
def test_every_width_shows_all_of_it(tab: Tab, pages: dict[str, str], kind: str, width: int) -> None:
    tab.open(pages[kind], width=width, height=844)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    assert tab.run("document.documentElement.scrollWidth") <= width
    assert json.loads(tab.run(CUT_OFF)) == []
    assert json.loads(tab.run(OVERLAPS)) == []


def test_the_verdict_is_on_the_first_screen_of_a_phone(tab: Tab, pages: dict[str, str]) -> None:
    tab.open(pages["slow"], width=390, height=844)

    assert tab.run("document.querySelector('h1').getBoundingClientRect().bottom") < 844 / 2
    assert tab.run("document.querySelector('.reasons li').getBoundingClientRect().bottom") < 844


def test_a_page_asks_nobody_and_complains_about_nothing(tab: Tab, pages: dict[str, str]) -> None:
    tab.complaints.clear()
    tab.open(pages["slow"])

    loaded = json.loads(tab.run("JSON.stringify(performance.getEntriesByType('resource').map((one) => one.name))"))

    assert [name for name in loaded if not name.startswith("data:")] == []
    assert tab.complaints == []
