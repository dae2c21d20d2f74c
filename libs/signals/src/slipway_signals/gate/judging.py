"""One run, window by window: the fold that a live run and a replay share.

It asks no clock, starts nothing and opens nothing. The invariants: what it says depends on the plan, the promises, the
checks and the windows that it was fed, in their order; once it has decided, later windows change nothing.
"""

from collections.abc import Sequence

from slipway_signals.gate.decide import Metrics, bad_requests, needed_of, verdict_of
from slipway_signals.gate.hard_stop import HardStops
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.margins import Fields, Promises, criteria_of
from slipway_signals.gate.plan import GatePlan, named
from slipway_signals.gate.reasons import reasons_of
from slipway_signals.gate.records import ARMS, Window
from slipway_signals.gate.sanity import findings_of
from slipway_signals.gate.totals import Blocks, Totals
from slipway_signals.gate.verdict import Check, Criterion, Decision, Finding, HardStop, Look, Verdict

__all__ = ["Judge"]

RESOURCES = {"cpu": "cpu_s", "queue": "queue_rows", "gpu": "gpu_utilisation", "cost": "cost_usd"}
"""Metric -> field of a scrape."""


class Judge:
    """Judges one run.

    Args:
        plan: What was asked for.
        promises: What `slo.yaml` says; None without one.
        checks: What was asked before any traffic.
    """

    def __init__(self, plan: GatePlan, promises: Promises | None, checks: Sequence[Check] = ()) -> None:
        self._plan = plan
        self._promises = promises
        self._checks = tuple(checks)
        threshold_s = None if promises is None else promises.latency_threshold_s
        self._threshold_us = None if threshold_s is None else round(threshold_s * 1e6)
        self._totals = Totals()
        self._blocks = Blocks(plan.block_s)
        self._stops = HardStops(plan, promises)
        self._stop: HardStop | None = None
        self._early: list[Window] = []
        self._metrics: Metrics | None = None
        self._findings: tuple[Finding, ...] = ()
        self._at_s = 0.0
        self.criteria: tuple[Criterion, ...] = ()
        self.looks: list[Look] = []
        self._is_over = any(check.status == "failed" and check.name != "preflight" for check in checks)
        self.is_decided = self._is_over

    def add(self, window: Window) -> Look | None:
        """Count a window and judge all until now; None when it is of the warm-up, or all was decided before it."""
        if self.is_decided:
            return None
        self._at_s = window.end_s
        self._stop = self._stops.add(window)
        if self._stop is not None:
            self.is_decided = True
        if window.is_warm_up:
            self._totals.skip(window)
            self._blocks.skip(window)
            self._early.append(window)
            return None
        self._totals.add(window)
        self._blocks.add(window)
        if self._metrics is None:
            self._early.append(window)
            if not all(self._totals.arms[arm].settled for arm in ARMS):
                return None
            self._begin()
        return self._look(window)

    def decision(self, *, has_load_failed: bool = False, said: str = "") -> Decision:
        """The end of it, as far as windows came.

        Args:
            has_load_failed: Whether the process that counted ended in another way than it should.
            said: Its last words.
        """
        findings = [*_of_checks(self._checks), *self._findings]
        if has_load_failed and not self.is_decided:
            text = f"the load process ended early{': ' + said if said else ''}"
            findings.append(Finding(code="load_ended", text=text, voids="any"))
        last = self.looks[-1] if self.looks else None
        if last is None and self._stop is None and not self._is_over:
            findings.append(Finding(code="no_answers", text="nothing was answered in a window that counts"))
        if self._stop is not None and self._stop.arm == "stable":
            findings.append(Finding(code="stable_breached", text=self._stop.text, arm="stable", voids="any"))
        metrics = () if last is None else last.metrics
        verdict = self._verdict(last, findings)
        needed = None
        if verdict == "inconclusive" and metrics:
            bad = bad_requests(self._totals, self._threshold_us)
            needed = needed_of(self.criteria, metrics, self._totals, bad)
        return Decision(
            verdict=verdict,
            reasons=reasons_of(verdict, self.criteria, metrics, findings, self._stop, needed, _fatal(self._checks)),
            at_s=self._at_s,
            requests={arm: self._totals.arms[arm].settled for arm in ARMS},
            metrics=metrics,
            findings=tuple(findings),
            hard_stop=self._stop,
            needed=needed,
        )

    def _verdict(self, last: Look | None, findings: Sequence[Finding]) -> Verdict:
        if _fatal(self._checks) or (self._stop is not None and self._stop.arm == "candidate"):
            return "fail"
        return "inconclusive" if last is None else verdict_of(self.criteria, last.metrics, findings)

    def _begin(self) -> None:
        """Fix what is judged, and by which margin, before the first look."""
        fields = self._fields()
        self.criteria = criteria_of(self._plan, self._promises, fields)
        self._metrics = Metrics(self._plan, self.criteria, self._threshold_us, fields.latency_us)
        self._early = []

    def _fields(self) -> Fields:
        warm_up = Histogram()
        outputs: set[str] = set()
        labels: set[str] = set()
        differing: set[str] = set()
        resources: set[str] = set()
        is_labelled = False
        for window in self._early:
            for arm, counts in window.arms.items():
                outputs |= counts.outputs.keys()
                labels |= counts.labels.keys()
                is_labelled |= counts.labelled > 0
                if arm == "stable" and window.is_warm_up:
                    warm_up.merge(counts.latency_us)
            differing |= window.pairs.disagreed.keys()
            stable = window.scrapes.get("stable")
            resources |= {name for name, field in RESOURCES.items() if getattr(stable, field, None) is not None}
        # Another model answers otherwise: pairs are judged where the plan says how far apart they may be.
        told = {} if self._plan.load is None else self._plan.load.tolerances
        compared = {name for name in outputs | labels | differing if name in told or self._is_told(name)}
        return Fields(
            latency_us=warm_up,
            outputs=tuple(sorted(outputs)),
            labels=tuple(sorted(labels)),
            disagreement=tuple(sorted(compared)),
            resources=tuple(name for name in RESOURCES if name in resources),
            is_labelled=is_labelled,
        )

    def _is_told(self, field: str) -> bool:
        return named(f"disagreement.{field}", self._plan.margins) is not None

    def _look(self, window: Window) -> Look | None:
        if self._metrics is None:
            raise RuntimeError("a look before the first counts: this is a bug in slipway")
        metrics = self._metrics.look(self._totals, self._blocks)
        self._findings = findings_of(self._plan, self._totals, self.criteria)
        verdict = verdict_of(self.criteria, metrics, [*_of_checks(self._checks), *self._findings])
        codes = tuple(dict.fromkeys(finding.code for finding in self._findings))
        look = Look(window=window.index, at_s=window.end_s, verdict=verdict, metrics=metrics, findings=codes)
        self.looks.append(look)
        if verdict == "fail" or (verdict == "pass" and self._plan.stops_on_pass):
            self.is_decided = True
        return look


def _fatal(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Checks that fail a candidate without any traffic."""
    return tuple(
        check
        for check in checks
        if check.status == "failed" and check.name in {"compatibility", "golden"} and check.arm != "stable"
    )


def _of_checks(checks: Sequence[Check]) -> list[Finding]:
    """What the checks before traffic say about the measurement."""
    found = []
    for check in checks:
        if check.status == "failed" and check not in _fatal((check,)):
            code = {"golden": "golden_stable", "identity": "digest_wrong", "preflight": "plan_cannot_conclude"}
            found.append(Finding(code=code.get(check.name, check.name), text=check.text, arm=check.arm))
    return found
