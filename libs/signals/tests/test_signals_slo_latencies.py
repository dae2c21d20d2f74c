"""When an answer of a route is slow, as the objectives of its service say it."""

import pytest

from slipway_signals.slo.latencies import slow_s
from slipway_signals.slo.openslo import slos_of

OBJECTIVE = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: {name}
  annotations:
    slipway.dev/owner: team-a
spec:
  service: a
  budgetingMethod: Occurrences
  timeWindow: [{{duration: 30d, isRolling: true}}]
  indicator:
    metadata: {{name: {name}-good}}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec: {{query: 'http_server_request_duration_seconds_bucket{{{route}le="{le}"}}'}}
        total:
          metricSource:
            type: Prometheus
            spec: {{query: 'http_server_request_duration_seconds_count{{{bare}}}'}}
  objectives: [{{displayName: {name}, target: {target}}}]
"""


def objectives(*wanted: tuple[str, str, str]) -> bytes:
    """An `slo.yaml`: matcher of the route, threshold, target of each."""
    parts = [
        OBJECTIVE.format(name=f"a-fast-{n}", route=f"{route}," if route else "", bare=route, le=le, target=target)
        for n, (route, le, target) in enumerate(wanted)
    ]
    return "---\n".join(parts).encode()


ANY = objectives(("", "0.5", "0.99"))
ONE = objectives(('http_route="/predict"', "0.05", "0.99"))
OTHERS = objectives(('http_route!="/livez"', "0.2", "0.99"))
SOME = objectives(('http_route=~"/predict|/explain"', "0.1", "0.99"))
REST = objectives(('http_route!~"/v2.*"', "0.1", "0.99"))
TAIL = objectives(('http_route="/predict"', "0.02", "0.95"), ('http_route="/predict"', "0.3", "0.999"))
TWICE = objectives(('http_route="/predict"', "0.3", "0.99"), ('http_route="/predict"', "0.1", "0.99"))


@pytest.mark.parametrize(
    ("text", "route", "expected"),
    [
        (ANY, "/anything", 0.5),
        (ONE, "/predict", 0.05),
        (ONE, "/predict/", None),
        (OTHERS, "/livez", None),
        (OTHERS, "/predict", 0.2),
        (SOME, "/explain", 0.1),
        (SOME, "/explained", None),
        (REST, "/v2/models/a/infer", None),
        (REST, "/predict", 0.1),
        (TAIL, "/predict", 0.3),
        (TWICE, "/predict", 0.1),
    ],
)
def test_a_route_has_the_threshold_of_the_objective_that_counts_it(
    text: bytes, route: str, expected: float | None
) -> None:
    assert slow_s([slos_of(text)], route) == expected


def test_without_objectives_no_route_has_one() -> None:
    assert slow_s([], "/predict") is None
