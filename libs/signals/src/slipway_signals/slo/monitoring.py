"""Alerts about the monitoring itself, once an installation: who watches the watchers.

`SlipwayWatchdog` always fires: its receiver is outside, and sounds when the message stops coming. All else here is what
would make alerts late or silent while the rest looks healthy.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.release_watches import INFO
from slipway_signals.slo.selectors import parse_selector
from slipway_signals.slo.watches import Drill, Input, Shapes, Watch

__all__ = ["FAILING", "OWNER", "SERVICE", "WATCHDOG", "monitoring_watches"]

SERVICE: Final = "monitoring"
"""What the label `service` of these alerts says."""

OWNER: Final = "platform"
WATCHDOG: Final = "SlipwayWatchdog"
FAILING: Final = "SlipwayNotificationsFailing"
WINDOW_S: Final = 600
"""Twice Alertmanager's `group_interval`: it counts a message that is lost once in that, and when it was gone and is
back it may tell of an alert only at the end of that. A window of five minutes had gaps, and was over too early."""

QUARTER_S: Final = 900
SILENT_S: Final = 600
"""A controller that is replaced is back sooner."""


def monitoring_watches(timing: Timing) -> Iterator[Watch]:
    """All of them, the watchdog first."""
    make = _Maker(SERVICE, OWNER, timing)
    yield make.watchdog()
    yield make.down()
    yield make.no_alertmanager()
    yield make.failing(
        "SlipwayRuleFailures",
        "prometheus_rule_evaluation_failures_total",
        "rule_group",
        (
            "Rules cannot be evaluated",
            "The rules of {{ $labels.rule_group }} have been failing for 15 minutes: their alerts are silent.",
        ),
    )
    yield make.failing(
        "SlipwayRulesLate",
        "prometheus_rule_group_iterations_missed_total",
        "rule_group",
        (
            "Rules are evaluated too slowly",
            (
                "Evaluations of {{ $labels.rule_group }} have been skipped for 15 minutes, because one takes "
                "longer than its interval: alerts come late."
            ),
        ),
    )
    yield make.failing(
        "SlipwayAlertsNotSent",
        "prometheus_notifications_dropped_total",
        "instance",
        (
            "Prometheus loses alerts",
            "Prometheus {{ $labels.instance }} has been dropping alerts on the way to Alertmanager for 15 minutes.",
        ),
    )
    yield make.failing(
        FAILING,
        "alertmanager_notifications_failed_total",
        "integration",
        (
            "Notifications do not arrive",
            "Alertmanager has failed to deliver by {{ $labels.integration }} for 15 minutes: somebody is not told.",
        ),
    )
    yield make.not_reloaded()
    yield make.no_releases()


class _Maker(Shapes):
    """Writes the watches of the monitoring."""

    def watchdog(self) -> Watch:
        """The dead-man's switch."""
        return Watch(
            alert=self.alert(
                WATCHDOG,
                "vector(1)",
                category="watchdog",
                severity="info",
                told=(
                    "The way from Prometheus to you works",
                    "This alert always fires. When its receiver stops hearing it, the monitoring is down.",
                ),
            ),
            drill=Drill(inputs=(), detect_s=0, has_near_miss=False),
        )

    def down(self) -> Watch:
        """A part of the monitoring cannot be scraped."""
        return self.yes_or_no(
            "SlipwayMonitoringDown",
            'up{job=~"prometheus|alertmanager"} == 0',
            Input(series='up{job="alertmanager",instance="a"}', kind="gauge", healthy=1, faulty=0),
            found={"job": "alertmanager", "instance": "a"},
            category="monitoring",
            told=(
                "A part of the monitoring is down",
                "{{ $labels.job }} at {{ $labels.instance }} could not be scraped for 5 minutes.",
            ),
        )

    def no_alertmanager(self) -> Watch:
        """Heard only where another Prometheus or the dead-man's switch listens."""
        return self.yes_or_no(
            "SlipwayNoAlertmanager",
            "prometheus_notifications_alertmanagers_discovered < 1",
            Input(
                series='prometheus_notifications_alertmanagers_discovered{instance="p"}',
                kind="gauge",
                healthy=1,
                faulty=0,
            ),
            found={"instance": "p"},
            category="monitoring",
            told=(
                "Prometheus knows no Alertmanager",
                "Prometheus {{ $labels.instance }} has had nobody to send alerts to for 5 minutes.",
            ),
        )

    def not_reloaded(self) -> Watch:
        """The rules that run are not the rules that were written."""
        return self.yes_or_no(
            "SlipwayConfigNotLoaded",
            "prometheus_config_last_reload_successful == 0 or alertmanager_config_last_reload_successful == 0",
            Input(
                series='prometheus_config_last_reload_successful{job="prometheus",instance="p"}',
                kind="gauge",
                healthy=1,
                faulty=0,
            ),
            found={"job": "prometheus", "instance": "p"},
            category="monitoring",
            told=(
                "A configuration was refused",
                (
                    "{{ $labels.job }} at {{ $labels.instance }} refused its last configuration 5 minutes ago or more, "
                    "and runs on with the one before."
                ),
            ),
        )

    def no_releases(self) -> Watch:
        """Pods of rollouts are scraped, and who moves them is not; where there is no rollout nobody is missed."""
        pods = "rollouts_pod_template_hash"
        return self.yes_or_no(
            "SlipwayRolloutsSilent",
            f'count(up{{{pods}!=""}})\nunless on() {INFO}',
            Input(series=f'up{{service="churn",{pods}="6d5f8b"}}', kind="gauge", healthy=1),
            Input(
                series=f'{INFO}{{name="churn",namespace="shop",phase="Completed"}}',
                kind="gauge",
                healthy=1,
                is_gone=True,
            ),
            value="1",
            category="monitoring",
            for_s=SILENT_S,
            told=(
                "Nobody hears of releases that are stopped",
                (
                    "The metrics of Argo Rollouts have been missing for 10 minutes, and {{ $value }} pods of rollouts "
                    "are scraped: `SlipwayReleaseAborted` and `SlipwayReleaseWaits` cannot fire."
                ),
            ),
        )

    def failing(self, name: str, counter: str, by: str, told: tuple[str, str]) -> Watch:
        """Failures in every ten minutes for a quarter of an hour; one alone passes."""
        series = parse_selector(counter).with_label(by, "x").text
        return Watch(
            alert=self.alert(
                name,
                f"sum by ({by}) (increase({counter}[{self.timing.text(WINDOW_S)}])) > 0",
                category="monitoring",
                for_s=QUARTER_S,
                told=told,
            ),
            drill=Drill(
                inputs=(Input(series=series, kind="counter", healthy=0, faulty=1),),
                detect_s=30,
                window_s=WINDOW_S,
                found={by: "x"},
                has_near_miss=False,
            ),
        )
