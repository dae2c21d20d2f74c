"""What the tests of objectives share: an `slo.yaml` to change, compiled parts, and the real promtool."""

import re
import subprocess
from pathlib import Path

from msgspec import structs

from slipway_signals.slo.compile import Part, parts_of, render_part
from slipway_signals.slo.drills import Case
from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.openslo import read_slos
from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.series import Known, selectors_of
from slipway_signals.slo.yamltext import parse_documents

ROOT = Path(__file__).resolve().parents[3]

AVAILABILITY = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: churn-availability
  annotations:
    slipway.dev/owner: team-churn
spec:
  service: churn
  budgetingMethod: Occurrences
  timeWindow: [{duration: 30d, isRolling: true}]
  indicator:
    spec:
      ratioMetric:
        counter: true
        bad:
          metricSource:
            spec: {query: 'http_server_request_duration_seconds_count{http_response_status_code=~"5.."}'}
        total:
          metricSource:
            spec: {query: 'http_server_request_duration_seconds_count'}
  objectives: [{target: 0.999}]
"""

LATENCY = (
    AVAILABILITY.replace("churn-availability", "churn-latency")
    .replace("bad:", "good:")
    .replace('_count{http_response_status_code=~"5.."}', '_bucket{le="0.05"}')
    .replace("0.999", "0.99")
)

DEPTH = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: churn-freshness, annotations: {slipway.dev/owner: team-churn, slipway.dev/category: freshness}}
spec:
  service: churn
  budgetingMethod: Occurrences
  timeWindow: [{duration: 30d, isRolling: true}]
  indicator: {spec: {thresholdMetric: {metricSource: {spec: {query: slipway_queue_depth}}}}}
  objectives: [{op: lte, value: 100, target: 0.99}]
"""

RAW = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: churn-quality, annotations: {slipway.dev/owner: team-churn, slipway.dev/category: quality}}
spec:
  service: churn
  budgetingMethod: Occurrences
  timeWindow: [{duration: 30d, isRolling: true}]
  indicator:
    spec:
      ratioMetric: {counter: true, rawType: failure, raw: {metricSource: {spec: {query: 'some_ratio{job="x"} * 2'}}}}
  objectives: [{target: 0.99}]
"""

SLICES = AVAILABILITY.replace("Occurrences", "Timeslices").replace(
    "{target: 0.999}", "{target: 0.99, timeSliceTarget: 0.95, timeSliceWindow: 1m}"
)


def read(text: str) -> ServiceSlos:
    """The objectives of a text, as if it were `slo.yaml`."""
    return read_slos(parse_documents(text, "slo.yaml"))


def part_of(text: str) -> Part:
    """The compiled part of the first objective of a text."""
    return parts_of(read(text), Timing(), Known())[0]


def run_part(part: Part, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let promtool run the tests of a part, each beside the rules that it asks for."""
    files: dict[str, str] = {}
    for number, case in enumerate(part.cases):
        files |= render_part(structs.replace(asked(part, case), name=f"{part.name}-{number}"), with_tests=True)
    return run_files(files, folder)


def asked(part: Part, case: Case) -> Part:
    """The part with one case, and no rule that has no say in it: promtool evaluates them all at every step.

    Where a case reads the words of an alert or asks for any alert, all rules stay.
    """
    part = structs.replace(part, cases=(case,))
    alerts = [re.findall(r'alertname="(\w+)"', check.expr) for check in case.checks if "ALERTS" in check.expr]
    if case.soundings or not all(alerts):
        return part
    rules = [rule for group in part.groups for rule in group.rules]
    names = {name for found in alerts for name in found}
    names |= {selector.metric for check in case.checks for selector in selectors_of(check.expr)}
    more = True
    while more:
        found = {s.metric for rule in rules if rule.name in names for s in selectors_of(rule.expr)}
        more = not found <= names
        names |= found
    groups = (
        structs.replace(group, rules=tuple(rule for rule in group.rules if rule.name in names)) for group in part.groups
    )
    return structs.replace(part, groups=tuple(groups))


def run_files(files: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Write the files and let promtool run those under tests/."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return promtool("test", "rules", *sorted(str(path) for path in folder.glob("tests/*.yaml")))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=280)
