"""Each page of the console: ask, then show. What cannot be asked becomes a sentence on the page, not an error page,
wherever the rest of the page says something without it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from slipway_bundle import SlipwayError, UsageError
from slipway_serve.console import dashboard_page, panels
from slipway_serve.console.alert_page import alert_body, index_body, runbook_body
from slipway_serve.console.frame import STYLES, alert_link, document
from slipway_serve.console.overview import Overview, look
from slipway_serve.console.overview_page import overview_body
from slipway_serve.console.releases import Releases
from slipway_serve.console.sources import ConsoleOptions, Sources
from slipway_serve.page_markup import el, page
from slipway_signals.dashboards.reading import Dashboard
from slipway_signals.oncall import Brief, brief
from slipway_signals.runbooks import Runbook

NOW_S: Final = 2.0
"""How often the first page and an alert's page look again."""
BRIEF_S: Final = 4.0
"""How long the brief of an alert is good for everybody who looks at the first page."""
FIRST: Final = "slipway-oncall"
"""The dashboard of whoever asks for none."""
Query = Mapping[str, Sequence[str]]
"""Of an address: every value of each name."""


class UnknownPageError(UsageError):
    """A page that the console does not have."""

    code = "page_unknown"


class Views:
    """The pages, as HTML and as what their JSON is made of; threads may share it.

    Args:
        options: of the console.
        clock: Unix seconds.

    Raises:
        SlipwayError: a dashboard or a runbook cannot be read.
    """

    def __init__(self, options: ConsoleOptions, *, clock: Callable[[], float] = time.time) -> None:
        self.sources = Sources(options, clock=clock)
        self._releases = Releases(self.sources.prometheus)
        self._briefs: dict[str, tuple[float, Brief]] = {}

    def close(self) -> None:
        """End the threads."""
        self.sources.close()

    def look(self) -> Overview:
        """What the first page knows."""
        return look(self.sources, self._releases)

    def now(self) -> bytes:
        """`/`."""
        seen = self.look()
        title = {"hurt": "▲ ", "failing": "◆ ", "unknown": "? "}.get(seen.verdict.level, "") + seen.verdict.headline
        return document(self.sources, title, "/", overview_body(seen, self._brief_of(seen)), refresh_s=NOW_S)

    def alert(self, name: str, labels: Mapping[str, str]) -> bytes:
        """`/alerts/NAME?service=…`."""
        about = self.brief(name, labels)
        body = alert_body(about, self._runbook(about.runbook), tuple(self.sources.runbooks))
        return document(self.sources, f"{name} {about.state}", "/", body, refresh_s=NOW_S)

    def brief(self, name: str, labels: Mapping[str, str]) -> Brief:
        """What is known about an alert now.

        Raises:
            UnknownPageError: no runbook is about it.
            PrometheusError: it cannot be asked.
        """
        known = {}
        if self.sources.options.alertmanager is not None:
            known["alertmanager"] = self.sources.options.alertmanager
        return brief(
            self.sources.prometheus, self._runbook(name), labels, self.sources.clock(), patience_s=5.0, known=known
        )

    def runbooks(self) -> bytes:
        """`/runbooks`."""
        try:
            alerts = self.sources.prometheus.alerts()
        except SlipwayError:
            alerts = []
        firing = {one.name: alert_link(one.name, one.labels) for one in alerts if one.state == "firing"}
        body = index_body(self.sources.runbooks, firing)
        return document(self.sources, "Runbooks", "/runbooks", body)

    def runbook(self, name: str) -> bytes:
        """`/runbooks/NAME`."""
        found = self._runbook(name)
        body = runbook_body(found, tuple(self.sources.runbooks))
        return document(self.sources, found.title, "/runbooks", body)

    def first_dashboard(self) -> str:
        """Where `/dashboards` leads."""
        if not self.sources.dashboards:
            raise UnknownPageError(
                f"there is no dashboard in {str(self.sources.options.observability / 'dashboards')!r}",
                hint="start the console in the repository, or give it --observability",
            )
        return f"/dashboards/{FIRST if FIRST in self.sources.dashboards else next(iter(self.sources.dashboards))}"

    def dashboard(self, uid: str, query: Query) -> bytes:
        """`/dashboards/UID?var-service=…&from=…&viewPanel=…`."""
        board = self.board(uid)
        window = self._window(board, query)
        given, problem = _given(board, query), None
        try:
            choices = panels.choices_of(self.sources, board, given, window)
        except SlipwayError as error:
            choices, problem = {}, str(error)
        alone = _last(query, "viewPanel") or ""
        body = dashboard_page.dashboard_body(
            board,
            choices,
            panels.chosen_of(board, given, choices),
            start=_last(query, "from") or _range_name(board),
            end=_last(query, "to") or "now",
            alone=int(alone) if alone.isdecimal() and len(alone) < 10 else None,
            problem=problem,
        )
        return document(
            self.sources,
            board.title,
            f"/dashboards/{uid}",
            body,
            libraries=dashboard_page.LIBRARIES,
            scripts=dashboard_page.SCRIPTS,
        )

    def board(self, uid: str) -> Dashboard:
        """A dashboard by name; raises UnknownPageError, which lists those there are."""
        if uid not in self.sources.dashboards:
            there = ", ".join(self.sources.dashboards) or "none"
            raise UnknownPageError(f"there is no dashboard {uid[:80]!r}, expected one of {there}")
        return self.sources.dashboards[uid]

    def panel(self, uid: str, number: int, query: Query) -> panels.Answer:
        """What one panel shows; raises as `panels.answer`, and DashboardError for a panel that is not there."""
        board = self.board(uid)
        window = self._window(board, query)
        return panels.answer(self.sources, board.panel(number), self._values(board, query, window), window)

    def marks(self, uid: str, query: Query) -> tuple[panels.Mark, ...]:
        """The moments that are marked in every chart of a dashboard."""
        board = self.board(uid)
        window = self._window(board, query)
        return panels.marks(self.sources, board.annotations, self._values(board, query, window), window)

    def _window(self, board: Dashboard, query: Query) -> panels.Window:
        return panels.window_of(
            _last(query, "from"),
            _last(query, "to"),
            now=self.sources.clock(),
            range_s=board.range_s,
            scrape_s=self.sources.scrape_s(),
        )

    def _values(self, board: Dashboard, query: Query, window: panels.Window) -> panels.Values:
        """Variables of a query that names them all; only one that lacks some asks Prometheus what they may be."""
        given = _given(board, query)
        lacking = [one for one in board.variables if not one.is_multi and not given.get(one.name)]
        choices = panels.choices_of(self.sources, board, given, window) if lacking else {}
        return panels.chosen_of(board, given, choices)

    def _runbook(self, name: str) -> Runbook:
        if name not in self.sources.runbooks:
            raise UnknownPageError(
                f"there is no runbook {name[:80]!r} in {str(self.sources.options.runbooks)!r}",
                hint="/runbooks lists those there are",
            )
        return self.sources.runbooks[name]

    def _brief_of(self, seen: Overview) -> Brief | None:
        """The brief of the alert that the verdict names; made at most every `BRIEF_S`, for everybody who looks."""
        alert = seen.verdict.alert
        if alert is None or alert.name not in self.sources.runbooks:
            return None
        key = alert_link(alert.name, alert.labels)
        made_at, made = self._briefs.get(key, (0.0, None))
        if made is not None and seen.at - made_at < BRIEF_S:
            return made
        try:
            made = self.brief(alert.name, alert.labels)
        except SlipwayError:
            return None
        self._briefs = {key: (seen.at, made)}
        return made


def problem(status: int, message: str, hint: str | None) -> bytes:
    """A page that says what is wrong; it needs nothing of the console."""
    title = {404: "There is no such page", 400: "That cannot be read", 502: "Prometheus gives no answer"}
    return page(
        f"{title.get(status, 'Something is wrong')} · slipway",
        styles=STYLES,
        scripts=(),
        body=[
            el(
                "main",
                el(
                    "section",
                    el("h1", title.get(status, "Something is wrong")),
                    el("p", message, class_="lead"),
                    el("p", hint, class_="quiet") if hint else None,
                    el("p", el("a", "What is now", href="/"), class_="ways"),
                    class_="verdict unknown",
                    id="verdict",
                ),
                id="main",
                data_refresh_s="5" if status == 502 else None,
            )
        ],
    )


def _last(query: Query, name: str) -> str | None:
    return (query.get(name) or [""])[-1] or None


def _given(board: Dashboard, query: Query) -> dict[str, list[str]]:
    return {
        one.name: [it for it in query.get(f"var-{one.name}", ()) if it not in panels.ALL] for one in board.variables
    }


def _range_name(board: Dashboard) -> str:
    """`now-1h` of 3600 seconds."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if board.range_s % size == 0:
            return f"now-{board.range_s // size:.0f}{unit}"
    return f"now-{board.range_s:.0f}s"
