"""An operational alert and the fault that shows it works, as data.

A watch is a condition on metrics that exist, with the drill that makes it fire; `drills` turns drills into promtool
tests. The invariant: no watch without a drill, so no alert without a test.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

from slipway_signals.slo.budget_alerts import annotated
from slipway_signals.slo.promrules import Alert, Timing
from slipway_signals.slo.selectors import Matcher

__all__ = ["EVENTS_LEAST", "Drill", "Input", "Shapes", "Watch"]

EVENTS_LEAST: Final = 4
"""Fewer events than this prove no share: a single one at night is not a pattern."""

STEP_S: Final = 30
"""From one sample of a drill to the next."""

WHOLE: Final = 100.0
"""Events of a drill in that time."""

NEAR: Final = 0.9
"""A near miss, as a part of the limit."""

HOUR_S: Final = 3_600
PATIENCE_S: Final = 300


class Input(Struct, frozen=True, kw_only=True):
    """One series of a drill. Counters: growth in 30 s. Gauges: the value. None: the series is not there."""

    series: str
    kind: Literal["counter", "gauge"]
    healthy: float | None
    near: float | None = None
    """At nine tenths of the limit; None: the same as healthy."""

    faulty: float | None = None
    """In the fault; None: the same as healthy."""

    is_gone: bool = False
    """Whether the series is not there in the fault."""


class Drill(Struct, frozen=True, kw_only=True):
    """The fault that an alert is for."""

    inputs: tuple[Input, ...]
    detect_s: float
    """From the onset until the condition holds, at the faulty values; `for` comes on top."""

    window_s: float = 0
    """The longest range the condition looks at."""

    found: Mapping[str, str] = field(default_factory=dict)
    """Labels of the alert that come from the series."""

    value: str = ""
    """`$value` as the description writes it, once the window is full of the fault."""

    steady_s: float | None = None
    """How long the fault lasts until `value` is true; None: as long as the range."""

    has_near_miss: bool = True
    """Whether there is a value just below the limit; a condition that is yes or no has none."""


class Watch(Struct, frozen=True, kw_only=True):
    """An alert with its drill."""

    alert: Alert
    drill: Drill


class Shapes:
    """Makes the watches of one service that share a shape.

    Args:
        service: The `service` label of its series.
        owner: Who is told.
        timing: True windows, or scaled ones.
    """

    def __init__(self, service: str, owner: str, timing: Timing) -> None:
        self.service, self.owner, self.timing = service, owner, timing

    def of(self, name: str, **labels: str) -> str:
        """A series of this service."""
        given = {"service": self.service, **labels}
        inside = ",".join(Matcher(label, "=", value).text for label, value in given.items())
        return f"{name}{{{inside}}}"

    def alert(
        self,
        name: str,
        expr: str,
        *,
        category: str,
        told: tuple[str, str],
        severity: Literal["page", "ticket", "info"] = "ticket",
        for_s: float = 0,
    ) -> Alert:
        """An alert of this service; `told` is its summary and its description."""
        labels = {"severity": severity, "service": self.service, "category": category, "owner": self.owner}
        annotations = annotated(name, self.service, summary=told[0], description=told[1])
        return Alert(name=name, expr=expr, for_s=self.timing.of(for_s), labels=labels, annotations=annotations)

    def yes_or_no(
        self,
        name: str,
        expr: str,
        *inputs: Input,
        category: str,
        told: tuple[str, str],
        found: Mapping[str, str] | None = None,
        value: str = "",
        for_s: float = PATIENCE_S,
    ) -> Watch:
        """A condition without a size, which has held for a while."""
        return Watch(
            alert=self.alert(name, expr, category=category, told=told, for_s=for_s),
            drill=Drill(inputs=inputs, detect_s=0, found=found or {}, value=value, has_near_miss=False),
        )

    def count(
        self,
        name: str,
        counter: str,
        labels: Mapping[str, str],
        *,
        category: str,
        told: tuple[str, str],
        by: tuple[str, ...] = (),
        only: str = "",
        least: int = EVENTS_LEAST - 1,
    ) -> Watch:
        """So many events in the last hour; `only` is a further matcher of the counter."""
        grouped = f" by ({', '.join(by)})" if by else ""
        counted = self.of(counter).removesuffix("}") + (f",{only}}}" if only else "}")
        window = self.timing.text(HOUR_S)
        limit = least * STEP_S / HOUR_S
        return Watch(
            alert=self.alert(
                name,
                f"sum{grouped} (increase({counted}[{window}])) > {least - 0.5:g}",  # 2.98 is 3, too
                category=category,
                told=told,
            ),
            drill=Drill(
                inputs=(
                    Input(
                        series=self.of(counter, **labels),
                        kind="counter",
                        healthy=0,
                        near=limit * NEAR * (least - 0.5) / least,
                        faulty=limit * 2,
                    ),
                ),
                detect_s=(least - 0.5) / (2 * least) * HOUR_S,
                window_s=HOUR_S,
                found={label: labels[label] for label in by},
                value=f"{2 * least}",
            ),
        )

    def share(
        self,
        name: str,
        part: str,
        rest: str,
        *,
        inputs: tuple[str, str],
        limit: float,
        window_s: float,
        category: str,
        told: tuple[str, str],
        for_s: float = 0,
        is_rest_whole: bool = False,
    ) -> Watch:
        """The part of all events, by model, is more than `limit`, and it is more than a few events.

        Args:
            name: Of the alert.
            part: Selector of the events that are counted against the service.
            rest: Selector of all other events.
            inputs: The series of the drill: one of the part, one of the others.
            limit: Share, 0 to 1; it is taken over `window_s`.
            is_rest_whole: Whether `rest` counts the part, too.
        """
        window = self.timing.text(window_s)
        events = f"sum by (model) (increase({part}[{window}]))"
        others = f"sum by (model) (increase({rest}[{window}]))"
        every = others if is_rest_whole else f"({events} + {others})"
        left = 0.0 if is_rest_whole else limit
        return Watch(
            alert=self.alert(
                name,
                f"{events} / ({every} > 0) > {limit:g}\nand {events} >= {EVENTS_LEAST}",
                category=category,
                told=told,
                for_s=for_s,
            ),
            drill=Drill(
                inputs=(
                    Input(
                        series=inputs[0],
                        kind="counter",
                        healthy=0,
                        near=WHOLE * limit * NEAR,
                        faulty=WHOLE * 2 * limit,
                    ),
                    Input(
                        series=inputs[1],
                        kind="counter",
                        healthy=WHOLE,
                        near=WHOLE * (1 - left * NEAR),
                        faulty=WHOLE * (1 - 2 * left),
                    ),
                ),
                detect_s=window_s / 2,
                window_s=window_s,
                found={"model": "m"},
                value=f"{200 * limit:g}%",
            ),
        )

    def late(
        self,
        name: str,
        histogram: str,
        labels: Mapping[str, str],
        *,
        limit_s: float,
        limit: float,
        window_s: float,
        category: str,
        told: tuple[str, str],
        for_s: float = 0,
    ) -> Watch:
        """Of what a histogram observed, more than `limit` took longer than `limit_s`, and it is more than a few.

        Args:
            name: Of the alert.
            histogram: Its name, without ending.
            labels: By which it is judged, with their values in the drill.
            limit_s: Seconds; a bound of the histogram.
            limit: Share, 0 to 1; it is taken over `window_s`.
        """
        window, by = self.timing.text(window_s), f" by ({', '.join(labels)})" if labels else ""
        every = f"sum{by} (increase({self.of(histogram + '_count')}[{window}]))"
        quick = f"sum{by} (increase({self.of(histogram + '_bucket', le=str(limit_s))}[{window}]))"
        return Watch(
            alert=self.alert(
                name,
                f"({every} - {quick}) / ({every} > 0) > {limit:g}\nand {every} - {quick} >= {EVENTS_LEAST}",
                category=category,
                told=told,
                for_s=for_s,
            ),
            drill=Drill(
                inputs=(
                    Input(series=self.of(histogram + "_count", **labels), kind="counter", healthy=WHOLE),
                    Input(
                        series=self.of(histogram + "_bucket", **labels, le=str(limit_s)),
                        kind="counter",
                        healthy=WHOLE,
                        near=WHOLE * (1 - NEAR * limit),
                        faulty=WHOLE * (1 - 2 * limit),
                    ),
                ),
                detect_s=window_s / 2,
                window_s=window_s,
                found=labels,
                value=f"{200 * limit:g}%",
            ),
        )
