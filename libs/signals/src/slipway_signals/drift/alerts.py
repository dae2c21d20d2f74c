"""The alerts of drift: significant, material and persistent; in words, with the numbers, and with the evidence.

Conditions only; the series are recorded by `rules`. The invariant: predictions are asked first. Features that moved are
named in the message about predictions, and have a ticket of their own only beyond twice the size and three times as
long: a feature may move and no answer with it (Rabanser et al., Failing Loudly, NeurIPS 2019).

`for` is the window's length, so the condition holds in every window from one to the next that shares no row with it.
"""

from typing import Final

from slipway_signals.drift.promql import Thresholds, joined, wilson
from slipway_signals.slo.panels import panel_url
from slipway_signals.slo.promrules import Alert, Timing

__all__ = ["drift_alerts"]

HOUR_S: Final = 3_600
QUARTER_S: Final = 900
FEATURE_HOURS: Final = 3

RUNBOOKS: Final = "runbooks/{alert}.md"

_MODEL = "the model {{ $labels.model }}{{ if $labels.track }} ({{ $labels.track }}){{ end }}"
_PERCENT: Final = "{{ $value | humanizePercentage }}"
_PSI: Final = "{{ $value | printf `%.3f` }}"
EVIDENCE: Final = (
    "{{ range $i, $one := query (printf `topk(3, slipway:feature_psi:1h{service=%q, model=%q, track=%q})` "
    "$labels.service $labels.model $labels.track) }}"
    "{{ if $i }}, {{ else }} The inputs that moved most: {{ end }}"
    "{{ $one.Labels.feature }} (PSI {{ $one.Value | printf `%.2f` }}){{ end }}"
)
RELEASES: Final = (
    "{{ range $i, $one := query (printf `count by (digest, version) (slipway_build_info{service=%q, track=%q})` "
    '$labels.service $labels.track) | sortByLabel "digest" }}'
    "{{ if $i }} {{ end }}{{ $one.Labels.digest }}={{ $one.Labels.version }}{{ end }}"
)
"""What is being served, for programs: `sha256:…=1.2`, two of them during a rolling update."""
MOVED: Final = (
    "{{ range $i, $one := query (printf `topk(3, slipway:feature_psi:1h{service=%q, model=%q, track=%q})` "
    "$labels.service $labels.model $labels.track) }}"
    "{{ if $i }} {{ end }}{{ $one.Labels.feature }}={{ $one.Value | printf `%.3f` }}{{ end }}"
)
"""The evidence, for programs: `income=0.306 contract=0.000`."""


def drift_alerts(service: str, owner: str, time: Timing, limits: Thresholds) -> tuple[Alert, ...]:
    """All alerts about the drift of a service's models."""
    make = _Maker(service, owner, time, limits)
    return (
        make.predictions(),
        make.features(),
        make.defects(),
        make.expected_accuracy(),
        make.realized_accuracy(),
    )


class _Maker:
    """Writes the alerts of one service."""

    def __init__(self, service: str, owner: str, time: Timing, limits: Thresholds) -> None:
        self._service, self._owner, self._time, self._limits = service, owner, time, limits
        self._selector = f'service="{service}"'

    def predictions(self) -> Alert:
        """The answers are spread otherwise than on the reference sample."""
        sizes = self._sizes("prediction", self._limits.prediction_psi)
        return self._alert(
            "SlipwayPredictionDrift",
            self._drifted("prediction", self._limits.prediction_psi, join=""),
            HOUR_S,
            summary=f"The answers of a model of {self._service} are not spread as in training: PSI {_PSI}",
            description=f"Over the last hour the answers of {_MODEL} had {sizes}.{EVIDENCE}",
            statistic="psi",
            moved=MOVED,
        )

    def features(self) -> Alert:
        """An input is spread otherwise than on the reference sample, much and for long."""
        sizes = self._sizes("feature", self._limits.feature_psi, feature="feature")
        return self._alert(
            "SlipwayFeatureDrift",
            self._drifted("feature", self._limits.feature_psi, join=joined() + " "),
            FEATURE_HOURS * HOUR_S,
            summary=f"An input of a model of {self._service} has moved: PSI {_PSI}",
            description=f"For {FEATURE_HOURS} hours the input {{{{ $labels.feature }}}} of {_MODEL} has been away from "
            f"the training sample, in the last hour with {sizes}.",
            statistic="psi",
        )

    def defects(self) -> Alert:
        """More values of an input are missing, out of range or unseen than in the reference sample."""
        rows, known = (f"slipway:{name}{{{self._selector}}}" for name in ("drift_rows:1h", "feature_reference:defects"))
        return self._alert(
            "SlipwayFeatureDefects",
            f"slipway:feature_defects:lower1h{{{self._selector}}} - {known}"
            f" > {self._limits.defects:g}\nand on (service, track, model) {rows} >= {self._limits.rows:g}",
            QUARTER_S,
            summary=f"{_PERCENT} more values of an input of {self._service} are missing, out of range or unseen",
            description=f"Of the last hour's values of the input {{{{ $labels.feature }}}} of {_MODEL} at least "
            "{{ $value | humanizePercentage }} more are missing, out of the training range or unseen than in training.",
            statistic="defects",
        )

    def expected_accuracy(self) -> Alert:
        """The calibrated probabilities themselves expect more mistakes than on the reference sample."""
        accuracy = f"slipway:prediction_expected_accuracy:1h{{{self._selector}}}"
        rows = f"slipway:drift_rows:1h{{{self._selector}}}"
        return self._alert(
            "SlipwayExpectedAccuracyLow",
            self._below(accuracy, rows, self._limits.rows),
            HOUR_S,
            summary=f"A model of {self._service} expects to be right in {_PERCENT}, less than in training",
            description=f"By its own calibrated probabilities {_MODEL} was right in {_PERCENT} of the last hour's "
            f"answers, more than {100 * self._limits.accuracy:g} points below the reference sample. No labels are "
            "needed for this; it holds while only the inputs change.",
            statistic="expected_accuracy",
        )

    def realized_accuracy(self) -> Alert:
        """The labels say that the model is wrong more often than on the reference sample."""
        accuracy = f"slipway:prediction_realized_accuracy:1d{{{self._selector}}}"
        rows = f"slipway:prediction_labels:1d{{{self._selector}}}"
        return self._alert(
            "SlipwayAccuracyLow",
            self._below(accuracy, rows, self._limits.labels),
            HOUR_S,
            summary=f"A model of {self._service} is right in {_PERCENT}, less than in training",
            description=f"By the labels of the last day {_MODEL} was right in {_PERCENT} of its "
            f"answers, more than {100 * self._limits.accuracy:g} points below the reference sample.",
            category="quality",
            statistic="accuracy",
        )

    def _sizes(self, kind: str, floor: float, **labels: str) -> str:
        """Both distances in words, as a template: the value of the alert is the PSI."""
        asked = {"service": "service", "model": "model", "track": "track", **labels}
        selector = ", ".join(f"{label}=%q" for label in asked)
        given = " ".join(f"$labels.{label}" for label in asked.values())
        return (
            f"a PSI of {{{{ $value | printf `%.3f` }}}} against the reference sample ({floor:g} is material)"
            f"{{{{ range query (printf `slipway:{kind}_ks:1h{{{selector}}}` {given}) }}}}"
            f" and a KS distance of {{{{ .Value | printf `%.3f` }}}} ({self._limits.ks:g} is material){{{{ end }}}}"
        )

    def _drifted(self, kind: str, floor: float, *, join: str) -> str:
        """Significant and material, by PSI or by KS, with enough rows; the value is the PSI.

        `join` brings the critical KS, which is the model's, to each feature.
        """
        selector, limits = self._selector, self._limits
        value = f"slipway:{kind}_psi:1h{{{selector}}}"
        distance = f"slipway:{kind}_ks:1h{{{selector}}}"
        by_psi = (
            f"({value} >= {floor:g} and slipway:{kind}_psi_statistic:1h{{{selector}}}"
            f" > slipway:{kind}_psi_statistic:critical{{{selector}}})"
        )
        significant = f"{distance} > {join}slipway:{kind}_ks_critical:1h{{{selector}}}"
        by_ks = f"({value} and ({distance} >= {limits.ks:g} and {significant}))"
        return (
            f"(\n{by_psi}\nor\n{by_ks}\n)"
            f"\nand on (service, track, model) slipway:drift_rows:1h{{{selector}}} >= {limits.rows:g}"
        )

    def _below(self, accuracy: str, rows: str, least: float) -> str:
        reference = f"slipway:prediction_reference:accuracy{{{self._selector}}}"
        upper = wilson(accuracy, rows, self._limits.z, "+")
        return f"{accuracy}\nand\n{upper}\n< {reference} - {self._limits.accuracy:g}\nand\n{rows} >= {least:g}"

    def _alert(
        self,
        name: str,
        expr: str,
        for_s: float,
        *,
        summary: str,
        description: str,
        category: str = "drift",
        **facts: str,
    ) -> Alert:
        """`facts` are annotations for programs: `episodes` reads them."""
        labels = {
            "severity": "ticket",
            "service": self._service,
            "category": category,
            "owner": self._owner,
        }
        annotations = {
            "summary": summary,
            "description": description,
            "runbook_url": RUNBOOKS.format(alert=name),
            "dashboard_url": panel_url(name, self._service),
            "value": "{{ $value | printf `%.6g` }}",
            "releases": RELEASES,
            **facts,
        }
        return Alert(name=name, expr=expr, for_s=self._time.of(for_s), labels=labels, annotations=annotations)
