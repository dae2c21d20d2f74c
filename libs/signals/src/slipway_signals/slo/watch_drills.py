"""The test of each operational alert: the fault makes it fire in time, with its words, and its end makes it silent.

Each also stays silent at nine tenths of its limit, and at a single event in a quiet hour.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from slipway_signals.slo.drills import GRACE_S, STEP_S, Case, counter, firing, gauge, sounding
from slipway_signals.slo.watches import Drill, Input, Watch

__all__ = ["looks_back_weeks", "watch_cases"]

DAY_S: Final = 86_400
COARSE_S: Final = 300
"""Step of a drill that looks back a week: twenty thousand evaluations would show no more."""

QUIET: Final = 0.5
"""Events in 30 s: one a minute."""

_VALUE: Final = re.compile(r"\{\{ \$value[^}]*\}\}")


def looks_back_weeks(watch: Watch) -> bool:
    """Whether its drill has the coarse step: such watches share files of their own, since a file has one step."""
    return watch.drill.window_s > DAY_S


def watch_cases(watches: Iterable[Watch]) -> Iterator[Case]:
    """The tests, in the order of the watches."""
    for watch in watches:
        step_s = COARSE_S if looks_back_weeks(watch) else STEP_S
        yield _fires(watch, step_s)
        if watch.drill.has_near_miss:
            yield _near_miss(watch, step_s)
        if step_s == STEP_S and any(each.kind == "counter" for each in watch.drill.inputs):
            yield _single(watch)


def _fires(watch: Watch, step_s: int) -> Case:
    drill, alert = watch.drill, watch.alert
    name = {"alertname": alert.name}
    grace_s = GRACE_S / STEP_S * step_s
    looks_back_s = drill.window_s if drill.window_s <= DAY_S else 0.0
    onset_s = _whole(drill.window_s + 10 * step_s, step_s)
    wait_s = drill.detect_s + alert.for_s
    steady_s = (looks_back_s if drill.steady_s is None else drill.steady_s) + alert.for_s + 2 * grace_s
    fault_s = _whole(max(wait_s, steady_s) + 2 * grace_s, step_s)
    checks = [
        firing(onset_s + wait_s + grace_s, name, count=1),
        firing(onset_s + fault_s + looks_back_s + grace_s, name),
    ]
    if drill.inputs:
        checks.insert(0, firing(onset_s - step_s, name))
    else:
        checks.pop()  # nothing ends what always fires
    if wait_s > grace_s:
        checks.insert(1, firing(onset_s + wait_s - grace_s, name))
    told = dict.fromkeys(_VALUE.findall(alert.annotations["description"]), drill.value)
    phases = ((onset_s, "healthy"), (fault_s, "faulty"), (looks_back_s + 5 * grace_s, "healthy"))
    return Case(
        name=f"{alert.name}: fires under its fault and resolves",
        series=_series(drill, phases, step_s),
        checks=tuple(checks),
        soundings=(sounding(onset_s + steady_s, [(alert, drill.found, told)]),),
        step_s=step_s,
    )


def _near_miss(watch: Watch, step_s: int) -> Case:
    drill, alert = watch.drill, watch.alert
    onset_s = _whole(drill.window_s + 10 * step_s, step_s)
    long_s = _whole((drill.window_s if drill.window_s <= DAY_S else 0) + alert.for_s + 20 * step_s, step_s)
    times = (onset_s + long_s / 2, onset_s + long_s - step_s)
    return Case(
        name=f"{alert.name}: silent at nine tenths of its limit",
        series=_series(drill, ((onset_s, "healthy"), (long_s, "near")), step_s),
        checks=tuple(firing(at_s, {"alertname": alert.name}) for at_s in times),
        step_s=step_s,
    )


def _single(watch: Watch) -> Case:
    drill, alert = watch.drill, watch.alert
    before_s, after_s = _whole(drill.window_s + 300, STEP_S), _whole(drill.window_s + alert.for_s + 300, STEP_S)
    series = {}
    for each in drill.inputs:
        healthy, faulty = each.healthy or 0.0, each.healthy if each.faulty is None else each.faulty
        usual = QUIET if healthy else 0.0
        one = (faulty or 0.0) - healthy
        odd = usual + 1 if one > 0 else max(0.0, usual - 1) if one < 0 else usual
        phases = ((before_s, usual), (STEP_S, odd), (after_s, usual))
        series[each.series] = counter(phases) if each.kind == "counter" else gauge([(before_s + after_s, healthy)])
    times = [before_s + after for after in (60, 300, 1_800) if after < after_s] + [before_s + after_s - STEP_S]
    return Case(
        name=f"{alert.name}: silent at a single event",
        series=series,
        checks=tuple(firing(at_s, {"alertname": alert.name}) for at_s in times),
    )


def _series(drill: Drill, phases: Iterable[tuple[float, str]], step_s: int) -> dict[str, str]:
    phases = tuple(phases)
    made = {}
    for each in drill.inputs:
        values = [(seconds, _value(each, phase)) for seconds, phase in phases]
        if each.kind == "gauge":
            made[each.series] = gauge(values, step_s)
        else:
            made[each.series] = counter(
                [(seconds, (value or 0.0) * step_s / STEP_S) for seconds, value in values], step_s
            )
    return made


def _value(each: Input, phase: str) -> float | None:
    match phase:
        case "faulty" if each.is_gone:
            return None
        case "faulty" if each.faulty is not None:
            return each.faulty
        case "near" if each.near is not None:
            return each.near
    return each.healthy


def _whole(seconds: float, step_s: int) -> float:
    return -(-seconds // step_s) * step_s
