"""The console in a real browser beside a real Prometheus: all can use it, it stays on its host, it never flickers.

Accessibility is judged by axe-core 4.14.1 (axe/, https://github.com/dequelabs/axe-core).
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chromium_pipe import Tab, browser
from console_world import World, console, says, world

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "prometheus", "prometheus-alertmanager")]

AXE = Path(__file__).parent / "axe" / "axe-4.14.1.min.js.gz"
BOARDS = ("oncall", "release", "debug", "drift", "exec")
PAGES = (
    "/",
    "/alerts/SlipwaySLOFastBurn?service=moody",
    "/runbooks",
    "/runbooks/SlipwaySLOFastBurn",
    "/nowhere",
    *(f"/dashboards/slipway-{board}?from=now-5m" for board in BOARDS),
)
DRAWN = "!document.getElementById('grid') || document.getElementById('grid').dataset.ready"
SCRIPT_BYTES = 200 * 1024
CUT_OFF = """JSON.stringify([...document.querySelectorAll("#main *, header *")]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
    .filter((one) => !one.closest("svg, canvas, .uplot, .unseen"))
    .filter((one) => { for (let at = one.parentElement; at; at = at.parentElement)
        if (/auto|scroll/.test(getComputedStyle(at).overflowX)) return false; return true; })
    .map((one) => one.textContent.trim().slice(0, 40)))"""
"""Words that lie right of the window, and in nothing that can be scrolled."""
FOCUSABLE = """[...document.querySelectorAll("a[href], button, summary, select, input, [tabindex='0']")]
    .filter((one) => one.checkVisibility() && !one.disabled)"""
HAS_RING = "(({outlineStyle, outlineWidth}) => outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1)"
RUN_AXE = "axe.run(document, {resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations))"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which something is wrong: pages about failures have more on them."""
    with world(tmp_path_factory.mktemp("world")) as made:
        made.bad_share = 0.5
        made.stack.until('ALERTS{alertstate="firing",alertname="SlipwaySLOFastBurn"}')
        yield made


@pytest.fixture(scope="module")
def client(watched: World) -> Iterator[httpx.Client]:
    with console(watched.stack.url, watched.stack.alertmanager_url) as made:
        says(made, "/", "Users of moody are hurt")
        yield made


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert shutil.which("chromium")
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def show(tab: Tab, client: httpx.Client, path: str, **window: Any) -> None:
    tab.open(f"{str(client.base_url).rstrip('/')}{path}", **window)
    tab.wait(DRAWN)


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(tab: Tab, client: httpx.Client, path: str, is_dark: bool) -> None:
    show(tab, client, path, is_dark=is_dark)

    tab.run(gzip.decompress(AXE.read_bytes()).decode())
    violations = json.loads(tab.run(RUN_AXE))

    serious = [one for one in violations if one["impact"] in {"serious", "critical"}]
    assert [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in serious] == []


def test_axe_would_find_what_is_wrong(tab: Tab, client: httpx.Client) -> None:
    show(tab, client, "/runbooks")
    tab.run("document.getElementById('main').append(new Image(), document.createElement('button'))")

    tab.run(gzip.decompress(AXE.read_bytes()).decode())
    found = {one["id"] for one in json.loads(tab.run(RUN_AXE))}

    assert {"image-alt", "button-name"} <= found


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_shows_the_whole_width(tab: Tab, client: httpx.Client, path: str) -> None:
    show(tab, client, path, width=390, height=844)

    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert json.loads(tab.run(CUT_OFF)) == []


def test_a_phone_would_miss_what_is_cut_off(tab: Tab, client: httpx.Client) -> None:
    show(tab, client, "/runbooks", width=390, height=844)
    tab.run(
        "document.getElementById('main').insertAdjacentHTML('beforeend', '<div id=near><p id=far>far away</p></div>');"
        "document.getElementById('near').style.overflow = 'hidden';"
        "document.getElementById('far').style.minWidth = '500px'"
    )

    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert json.loads(tab.run(CUT_OFF)) == ["far away"]


@pytest.mark.parametrize("path", ["/", "/dashboards/slipway-debug?from=now-5m"])
def test_a_page_asks_no_other_host_and_little_script(tab: Tab, client: httpx.Client, path: str) -> None:
    tab.complaints.clear()
    show(tab, client, path)

    loaded = json.loads(tab.run("JSON.stringify(performance.getEntriesByType('resource').map((one) => one.name))"))
    assert loaded
    assert [name for name in loaded if not name.startswith(str(client.base_url))] == []
    scripts = {name for name in loaded if name.endswith(".js")}
    assert sum(len(client.get(name).content) for name in scripts) <= SCRIPT_BYTES
    assert tab.complaints == []


def test_lines_are_drawn_with_their_last_values_in_words(tab: Tab, client: httpx.Client) -> None:
    show(tab, client, "/dashboards/slipway-oncall?var-service=moody&from=now-5m&viewPanel=7")

    coloured = tab.run(
        "(() => { const canvas = document.querySelector('#panel-7 canvas');"
        "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        "return data.filter((value, at) => at % 4 === 3 && value).length; })()"
    )
    assert coloured > 500
    words = tab.run("document.querySelector('#panel-7 .legend').textContent")
    assert "/predict" in words
    assert "%" in words


def test_looking_again_changes_only_what_is_different(tab: Tab, client: httpx.Client) -> None:
    """Nothing flickers: the same elements stay, what was opened stays open, the focus stays where it is."""
    show(tab, client, "/alerts/SlipwaySLOFastBurn?service=moody")
    tab.run("document.querySelector('#answers summary').focus()")
    tab.run("document.querySelector('#answers details').open = true")
    tab.run(
        "window.kept = document.querySelector('#runbook section'); window.gone = 0; window.stamp = stampText();"
        "function stampText() { return document.querySelector('#stamp').textContent; }"
        "new MutationObserver((all) => all.forEach((one) => one.removedNodes.forEach((node) => {"
        "if (node.nodeType === 1) window.gone += 1; }))).observe(document.getElementById('runbook'),"
        "{subtree: true, childList: true})"
    )

    tab.wait("document.querySelector('#stamp').textContent !== window.stamp")

    assert tab.run("window.kept === document.querySelector('#runbook section')")
    assert tab.run("window.gone") == 0
    assert tab.run("document.querySelector('#answers details').open")
    assert tab.run("document.activeElement === document.querySelector('#answers summary')")


def test_a_dashboard_that_is_drawn_again_keeps_its_charts(tab: Tab, client: httpx.Client) -> None:
    show(tab, client, "/dashboards/slipway-oncall?var-service=moody&from=now-5m")
    tab.run("window.kept = [...document.querySelectorAll('#grid canvas')]; scrollTo(0, 300)")
    tab.run("window.drawn = document.getElementById('drawn').textContent")

    tab.wait("document.getElementById('drawn').textContent !== window.drawn")

    assert tab.run("window.kept.length") > 3
    assert tab.run("window.kept.every((one) => one.isConnected)")
    assert tab.run("scrollY") == 300


def test_what_is_promised_looks_like_nothing_that_is_measured(tab: Tab, client: httpx.Client) -> None:
    show(tab, client, "/dashboards/slipway-oncall?var-service=moody&from=now-5m&viewPanel=8")

    strokes = json.loads(
        tab.run(
            "JSON.stringify([...document.querySelectorAll('#panel-8 .legend li')].map((one) =>"
            "[one.querySelector('.name').textContent, one.querySelector('line').getAttribute('stroke')]))"
        )
    )
    ink = tab.run("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()")
    assert len(strokes) >= 3
    assert [name for name, stroke in strokes if stroke == ink] == ["objective moody-latency"]


@pytest.mark.parametrize("path", ["/", "/dashboards/slipway-oncall?from=now-5m", "/runbooks/SlipwaySLOFastBurn"])
def test_everything_can_be_reached_by_keyboard_and_shows_that_it_is(tab: Tab, client: httpx.Client, path: str) -> None:
    show(tab, client, path)
    tab.run(f"window.all = {FOCUSABLE}")
    count = tab.run("window.all.length")
    reached, ringless = [], []
    for _ in range(count):
        tab.press("Tab")
        reached.append(tab.run("window.all.indexOf(document.activeElement)"))
        if not tab.run(f"{HAS_RING}(getComputedStyle(document.activeElement))"):
            ringless.append(tab.run("document.activeElement.outerHTML.slice(0, 80)"))

    assert count > 10
    assert reached == list(range(count))
    assert ringless == []


def test_the_first_key_leads_past_the_menu(tab: Tab, client: httpx.Client) -> None:
    show(tab, client, "/")

    for key in ("Tab", "Enter", "Tab"):
        tab.press(key)

    assert tab.run("document.activeElement.closest('#main') !== null")


def test_a_console_that_is_gone_is_said_on_the_page_that_is_left_and_no_longer_when_it_is_back(
    tab: Tab, watched: World
) -> None:
    with console(watched.stack.url) as own:
        says(own, "/", "Users of moody are hurt")
        show(tab, own, "/")
        assert tab.run("document.getElementById('stale').hidden")
        port = own.base_url.port or 0

    tab.wait("!document.getElementById('stale').hidden")

    assert "The console has not answered since" in tab.run("document.getElementById('stale').textContent")
    assert "Users of moody are hurt" in tab.run("document.querySelector('h1').textContent")
    with console(watched.stack.url, port=port):
        tab.wait("document.getElementById('stale').hidden")
