"""Is this hour like the same hour of the weeks before? Tickets only: unusual is not yet harmful.

It compares what `budget_rules` recorded, one to three weeks ago. The invariant: a service younger than a week has no
usual hour, so nothing fires. A missing week (an outage of the monitoring) leaves the others.
"""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from slipway_signals.slo.budget_rules import lower_bound, series
from slipway_signals.slo.model import Counters, ServiceSlos, Slo
from slipway_signals.slo.promrules import Alert, Record, Timing
from slipway_signals.slo.watches import Drill, Input, Shapes, Watch

__all__ = ["anomaly_records", "anomaly_watches"]

WEEK_S: Final = 604_800
WEEKS: Final = (1, 2, 3)
HOUR_S: Final = 3_600
QUARTER_S: Final = 900
TIMES_WORSE: Final = 3
TRAFFIC_SHARE: Final = 0.3
EVENTS_LEAST: Final = 100
"""A usual hour with fewer events is too small to be missed."""


def anomaly_records(service: ServiceSlos, timing: Timing) -> Iterator[Record]:
    """The worst share of bad events, and the median of the traffic, in the same hour of past weeks."""
    for slo in _counted(service):
        labels = {"slo": slo.name, "service": slo.service}
        errors = _weeks(series("errors:ratio_rate1h", slo), timing)
        yield Record(name="slipway:slo_errors:usual_rate1h", expr=f"max without (week) ({errors})", labels=labels)
        if slo is _counted(service)[0]:
            total = _weeks(series("total:rate1h", slo), timing)
            expr = f"quantile without (week) (0.5, {total})"
            yield Record(name="slipway:slo_total:usual_rate1h", expr=expr, labels=labels)


def anomaly_watches(service: ServiceSlos, timing: Timing) -> Iterator[Watch]:
    """One a counted objective for its errors, one a service for its traffic."""
    slos = _counted(service)
    for slo in slos:
        yield _errors(slo, timing)
    if slos:
        yield _traffic(slos[0], timing)


def _counted(service: ServiceSlos) -> list[Slo]:
    return [slo for slo in service.slos if isinstance(slo.indicator, Counters) and slo.is_guarded]


def _weeks(recorded: str, timing: Timing) -> str:
    parts = (
        f'label_replace({recorded} offset {timing.text(week * WEEK_S)}, "week", "{week}", "", "")' for week in WEEKS
    )
    return "\n  or ".join(parts)


def _errors(slo: Slo, timing: Timing) -> Watch:
    now, usual = series("errors:ratio_rate1h", slo), series("errors:usual_rate1h", slo)
    proof, budget = lower_bound(slo, HOUR_S), f"{slo.budget:f}"
    shapes = Shapes(slo.service, slo.owner, timing)
    bad = float(slo.budget)
    return Watch(
        alert=_with_slo(
            shapes.alert(
                "SlipwaySLOAnomaly",
                f"{now} > {TIMES_WORSE} * {usual}\nand {proof} > {usual}\nand {proof} > {budget}",
                category="anomaly",
                for_s=QUARTER_S,
                told=(
                    f"{slo.title}: {{{{ $value | humanizePercentage }}}} bad, worse than at this hour of past weeks",
                    (
                        f"{{{{ $value | humanizePercentage }}}} of the last hour's events of {slo.name} were bad: "
                        f"more than {TIMES_WORSE} times the worst of the same hour in the last three weeks."
                    ),
                ),
            ),
            slo,
        ),
        drill=Drill(
            inputs=(
                Input(
                    series=_given("errors:ratio_rate1h", slo), kind="gauge", healthy=bad, near=2.7 * bad, faulty=6 * bad
                ),
                Input(
                    series=_given("errors_lcb:ratio_rate1h", slo), kind="gauge", healthy=0, near=2 * bad, faulty=4 * bad
                ),
            ),
            detect_s=0,
            window_s=WEEK_S,
            found={"slo": slo.name},
            value=f"{600 * bad:g}%",
        ),
    )


def _traffic(slo: Slo, timing: Timing) -> Watch:
    now, usual = series("total:rate1h", slo), series("total:usual_rate1h", slo)
    shapes = Shapes(slo.service, slo.owner, timing)
    return Watch(
        alert=_with_slo(
            shapes.alert(
                "SlipwayTrafficAnomaly",
                f"{now} / ({usual} > 0) < {TRAFFIC_SHARE:g}\nand {usual} * {timing.seconds(HOUR_S)} > {EVENTS_LEAST}",
                category="anomaly",
                for_s=QUARTER_S,
                told=(
                    f"{slo.service} gets {{{{ $value | humanizePercentage }}}} of its usual traffic",
                    (
                        f"In the last hour {slo.service} got {{{{ $value | humanizePercentage }}}} of the traffic "
                        "that is usual at this hour of the week."
                    ),
                ),
            ),
            slo,
        ),
        drill=Drill(
            inputs=(Input(series=_given("total:rate1h", slo), kind="gauge", healthy=10, near=3.3, faulty=1),),
            detect_s=0,
            window_s=WEEK_S,
            found={"slo": slo.name},
            value="10%",
        ),
    )


def _with_slo(alert: Alert, slo: Slo) -> Alert:
    """Two objectives of a service have rules of one name: the label tells them apart."""
    return replace(alert, labels={**alert.labels, "slo": slo.name})


def _given(name: str, slo: Slo) -> str:
    return f'slipway:slo_{name}{{slo="{slo.name}",service="{slo.service}"}}'
