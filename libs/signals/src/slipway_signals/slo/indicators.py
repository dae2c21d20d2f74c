"""The indicator of an objective: counters, a gauge with a limit, or a raw query.

It reads one `indicator` and knows nothing of windows and alerts. The invariant: each selector carries
`service="<name>"`, its metric and labels exist, and a latency threshold is a bucket bound in the spelling that is
scraped (pyrra#1502: a hand-written `le` that no bucket has shows a wrong availability and no error).
"""

from typing import Final, Literal

from slipway_signals.metrics import REQUEST_DURATION
from slipway_signals.slo.durations import parse_duration
from slipway_signals.slo.model import Counters, Gauge, Indicator, Raw, Slices
from slipway_signals.slo.selectors import Matcher, Selector, SelectorProblem, bound_text, parse_selector
from slipway_signals.slo.series import EXTERNAL, Known
from slipway_signals.slo.witnesses import problem_of_events
from slipway_signals.slo.yamltext import Value

__all__ = ["read_indicator", "read_slices"]

OPERATORS: Final[dict[str, Literal["<=", "<", ">=", ">"]]] = {"lte": "<=", "lt": "<", "gte": ">=", "gt": ">"}
SHORTEST_SLICE_S: Final = 60
LONGEST_SLICE_S: Final = 300


def read_slices(method: str, objective: dict[str, Value], whole: Value, place: Value) -> Slices | None:
    """The slices of an objective whose budget counts time; None when it counts events. Raises SloError."""
    given = [key for key in ("timeSliceTarget", "timeSliceWindow") if key in objective]
    if method == "Occurrences":
        for key in given:
            objective[key].refuse_key(key, "is for `budgetingMethod: Timeslices`")
        return None
    if len(given) != 2:
        whole.fail("`budgetingMethod: Timeslices` needs timeSliceTarget and timeSliceWindow")
    window_s = parse_duration(objective["timeSliceWindow"].text())
    if window_s is None or not SHORTEST_SLICE_S <= window_s <= LONGEST_SLICE_S:
        objective["timeSliceWindow"].expect("a duration from 1m to 5m", hint="a rule looks at it every 30 s")
    target = objective["timeSliceTarget"].number()
    if not 0 < target < 1:
        objective["timeSliceTarget"].expect("a share between 0 and 1")
    del place
    return Slices(window_s=window_s, target=target)


def read_indicator(
    value: Value, objective: dict[str, Value], service: str, known: Known, *, is_sliced: bool
) -> Indicator:
    """What `indicator` says; raises SloError."""
    top = value.mapping(("spec",), ("metadata",))
    if "metadata" in top:
        top["metadata"].mapping(("name",), ("displayName", "annotations", "labels"))
    spec = top["spec"].mapping((), ("description", "ratioMetric", "thresholdMetric"))
    if ("ratioMetric" in spec) == ("thresholdMetric" in spec):
        top["spec"].expect("either ratioMetric or thresholdMetric")
    if "thresholdMetric" in spec:
        if is_sliced:
            spec["thresholdMetric"].fail("a threshold is judged at each evaluation: use `budgetingMethod: Occurrences`")
        return _gauge(spec["thresholdMetric"], objective, service, known)
    for key in ("op", "value"):
        if key in objective:
            objective[key].refuse_key(key, "is for a thresholdMetric")
    ratio = spec["ratioMetric"]
    parts = ratio.mapping(("counter",), ("good", "bad", "total", "raw", "rawType"))
    if "raw" in parts:
        if is_sliced:
            parts["raw"].fail("a raw ratio has no slices: use `budgetingMethod: Occurrences`")
        return _raw(parts, ratio)
    return _counters(parts, ratio, service, known)


def _counters(parts: dict[str, Value], ratio: Value, service: str, known: Known) -> Counters:
    if "rawType" in parts:
        parts["rawType"].refuse_key("rawType", "is for `raw`")
    if not parts["counter"].boolean():
        parts["counter"].expect("true", hint="the compiler writes rate(); a gauge is a thresholdMetric")
    if "total" not in parts or ("good" in parts) == ("bad" in parts):
        ratio.expect("total, and either good or bad")
    counts: Literal["good", "bad"] = "good" if "good" in parts else "bad"
    place, part = _selector(parts[counts], service, known)
    total_place, total = _selector(parts["total"], service, known)
    if total.metric.endswith("_bucket"):
        total_place.fail("a total is a `_count` or a counter, not buckets", expected="a counter")
    if not part.metric.endswith("_bucket"):
        if wrong := problem_of_events(part, total, counts):
            place.fail(wrong)
        return Counters(total=total, part=part, counts=counts)
    if counts == "bad":
        place.fail("buckets count from below: they are `good`, never `bad`")
    bound_s, part = _bound(part, place, known)
    expected = _count_of(part)
    if (total.metric, sorted(total.matchers)) != (expected.metric, sorted(expected.matchers)):
        total_place.fail(
            f"the total of these buckets is {expected.text}", hint="other labels would compare other requests"
        )
    return Counters(total=total, part=part, counts="good", threshold_s=bound_s)


def _bound(part: Selector, place: Value, known: Known) -> tuple[float, Selector]:
    """The threshold, and the selector with `le` as it is scraped."""
    text = part.value_of("le")
    if text is None:
        place.fail('buckets need one `le="<seconds>"`')
    try:
        bound = float(text)
    except ValueError:
        place.fail(f"le is {text!r}, expected seconds")
    bounds = known.bounds.get(part.metric)
    takes_any = part.metric == f"{REQUEST_DURATION.name}_bucket"  # serve adds the thresholds of slo.yaml to its bounds
    if not 0 < bound < float("inf"):
        place.fail(f"le is {text!r}, expected a positive number of seconds")
    if bounds is not None and not takes_any and bound not in bounds:
        near = sorted(sorted(bounds, key=lambda other: abs(other - bound))[:2])
        told = " and ".join(bound_text(other) for other in near)
        place.fail(f"le is {text!r}, but {part.metric} has no such bucket; the nearest are {told}")
    matchers = tuple(Matcher("le", "=", bound_text(bound)) if m.label == "le" else m for m in part.matchers)
    return bound, Selector(metric=part.metric, matchers=matchers)


def _count_of(part: Selector) -> Selector:
    matchers = tuple(matcher for matcher in part.matchers if matcher.label != "le")
    return Selector(metric=part.metric.removesuffix("_bucket") + "_count", matchers=matchers)


def _gauge(threshold: Value, objective: dict[str, Value], service: str, known: Known) -> Gauge:
    for key in ("op", "value"):
        if key not in objective:
            threshold.fail(f"the objective needs {key!r}: a threshold compares", expected=f"objectives[0].{key}")
    place, selector = _selector(threshold, service, known)
    if selector.metric.endswith(("_total", "_bucket", "_count", "_sum")):
        place.fail("a threshold compares a gauge, and this one only grows", hint="use a ratioMetric")
    return Gauge(
        selector=selector,
        operator=OPERATORS[objective["op"].one_of(*OPERATORS)],
        limit=objective["value"].number(),
    )


def _raw(parts: dict[str, Value], ratio: Value) -> Raw:
    for key in ("good", "bad", "total"):
        if key in parts:
            parts[key].refuse_key(key, "cannot stand beside `raw`")
    if "rawType" not in parts:
        ratio.fail("'rawType' is missing", expected="success or failure")
    kind = parts["rawType"].one_of("success", "failure")
    _, query = _query(parts["raw"])
    return Raw(query=" ".join(query.text().split()), counts="good" if kind == "success" else "bad")


def _selector(value: Value, service: str, known: Known) -> tuple[Value, Selector]:
    _, query = _query(value)
    try:
        found = parse_selector(query.text())
    except SelectorProblem as problem:
        query.fail(str(problem), offset=problem.offset)
    if found.metric.startswith(EXTERNAL):
        return query, found
    said = found.value_of("service")
    if said is not None and said != service:
        query.fail(f"service is {said!r}, expected {service!r}: an objective watches its own service")
    found = found.with_label("service", service)
    if wrong := known.problem_of(found):
        query.fail(wrong, hint="metrics of other exporters begin with kube_, container_ or DCGM_")
    return query, found


def _query(value: Value) -> tuple[Value, Value]:
    source = value.mapping(("metricSource",))["metricSource"].mapping(("spec",), ("type", "metricSourceRef"))
    if "type" in source:
        source["type"].one_of("Prometheus")
    return source["spec"], source["spec"].mapping(("query",))["query"]
