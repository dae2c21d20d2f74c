"""What every page of the console shares: the bar on top, the notice when something is not to be trusted, links.

Pages are made on the server, whole; `live.js` asks for them again and changes what is different.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from slipway_serve.console.sources import Sources
from slipway_serve.console.words import clock_text
from slipway_serve.page_markup import Child, Html, el, page

STYLES: Final = ("/static/pages.css", "/static/console.css")
BOARDS: Final = ("slipway-oncall", "slipway-release", "slipway-debug", "slipway-drift", "slipway-exec")
ORDER: Final = {uid: place for place, uid in enumerate(BOARDS)}
"""Dashboards in the order in which somebody who was woken needs them."""
LEVEL_SIGNS: Final = {"hurt": "▲", "failing": "◆", "watching": "■", "unknown": "?", "calm": "○", "fine": "●"}
"""Each state has a shape, so that colour is never all that says it."""


def document(
    sources: Sources,
    title: str,
    current: str,
    body: Iterable[Child],
    *,
    refresh_s: float | None = None,
    libraries: Sequence[str] = (),
    scripts: Sequence[str] = (),
) -> bytes:
    """A page of the console.

    Args:
        sources: for the navigation.
        title: of the window; begins with what matters.
        current: path that the navigation marks.
        body: children of `<main>`.
        refresh_s: how often `live.js` asks for the page again; None: never.
        libraries: of this page.
        scripts: modules of this page, beside `live.js`.
    """
    return page(
        f"{title} · slipway",
        styles=(*STYLES, *(["/static/uplot.css"] if libraries else [])),
        libraries=libraries,
        scripts=("/static/live.js", *scripts),
        about="What fires, whom it hurts, and what to do.",
        body=[
            el("a", "Skip to content", href="#main", class_="skip"),
            _top(sources, current),
            el("p", "", class_="stale", id="stale", role="status", hidden=True),
            el("main", body, id="main", data_refresh_s=None if refresh_s is None else f"{refresh_s:g}"),
        ],
    )


def dashboard_link(url: str) -> str | None:
    """Where the console shows what an alert's `dashboard_url` names; None when it names no dashboard."""
    path, _, query = url.partition("?")
    uid = path.rpartition("/")[2].removesuffix(".json")
    if not uid:
        return None
    return f"/dashboards/{quote(uid)}" + (f"?{urlencode(parse_qsl(query))}" if query else "")


def alert_link(name: str, labels: dict[str, str]) -> str:
    """The page of an alert that fires; its labels choose it among several of its name."""
    known = {key: value for key, value in sorted(labels.items()) if key not in {"alertname", "severity", "owner"}}
    return f"/alerts/{quote(name, safe='')}" + (f"?{urlencode(known)}" if known else "")


def runbook_link(name: str) -> str:
    """The page of a runbook."""
    return f"/runbooks/{quote(name, safe='')}"


def sign(level: str) -> Html:
    """The shape of a state; words beside it say the same."""
    return el("span", LEVEL_SIGNS.get(level, "•"), class_=f"sign {level}", aria_hidden="true")


def command(text: str, *, what: str = "Command") -> Html:
    """Something to type, with a button that copies it; `what` names it to those who hear the page."""
    return el(
        "div",
        el("pre", el("code", text), class_="wrap", tabindex="0", role="group", aria_label=what),
        el("button", "Copy", type="button", data_copy=text, class_="copy"),
        class_="command",
    )


def stamp(now: float) -> Html:
    """When the page was made."""
    return el("p", "As of ", el("time", clock_text(now, now)), class_="quiet stamp", id="stamp")


def _top(sources: Sources, current: str) -> Html:
    known = sorted(sources.dashboards.values(), key=lambda one: (ORDER.get(one.uid, len(ORDER)), one.uid))
    boards = [(f"/dashboards/{one.uid}", short_title(one.title)) for one in known]
    links = [("/", "Now"), *boards, ("/runbooks", "Runbooks")]
    return el(
        "header",
        el("a", el("span", aria_hidden="true", class_="mark"), "slipway console", href="/", class_="brand"),
        el(
            "nav",
            [el("a", word, href=href, aria_current="page" if href == current else None) for href, word in links],
            aria_label="Pages",
        ),
        class_="top",
    )


def short_title(title: str) -> str:
    """A dashboard's title without what all of them say."""
    return title.removeprefix("slipway").lstrip(" ·:/—-").capitalize() or title
