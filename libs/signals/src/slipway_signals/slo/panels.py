"""Which panel shows what an alert is about: the deep link that every alert carries.

Names and numbers only; `slipway_signals.dashboards` makes the panels, and a test holds the two together: each alert has
a panel, and that panel asks for a metric of the alert.
"""

from typing import Final

__all__ = ["PANELS", "panel_url"]

PANELS: Final = {
    **dict.fromkeys(("SlipwaySLOFastBurn", "SlipwaySLOSlowBurn"), ("slipway-oncall", 5)),
    "SlipwaySLOBudgetEnding": ("slipway-oncall", 3),
    "SlipwaySLOBudgetSpent": ("slipway-oncall", 2),
    "SlipwayDeployInProgress": ("slipway-oncall", 6),
    "SlipwaySLOAnomaly": ("slipway-oncall", 9),
    "SlipwayTrafficAnomaly": ("slipway-oncall", 10),
    **dict.fromkeys(("SlipwayWorkerRestarts", "SlipwayReplicaLosses", "SlipwayPodRestarts"), ("slipway-oncall", 11)),
    **dict.fromkeys(
        ("SlipwayServiceDown", "SlipwayTargetDown", "SlipwayMetricsAbsent", "SlipwayWorkerCrashLoop"),
        ("slipway-oncall", 12),
    ),
    "SlipwayInferenceErrors": ("slipway-debug", 15),
    "SlipwayPoisonedRequests": ("slipway-debug", 16),
    "SlipwayQueueWait": ("slipway-debug", 21),
    "SlipwayShedding": ("slipway-debug", 23),
    "SlipwayEventLoopHeld": ("slipway-debug", 26),
    "SlipwayColdStarts": ("slipway-debug", 31),
    "SlipwayModelNotReady": ("slipway-debug", 32),
    "SlipwayModelLoadSlow": ("slipway-debug", 33),
    "SlipwayMemoryNearLimit": ("slipway-debug", 42),
    "SlipwayGpuMemoryFull": ("slipway-debug", 44),
    "SlipwayRetryStorm": ("slipway-debug", 51),
    "SlipwayCaptureIncomplete": ("slipway-debug", 61),
    "SlipwayTelemetryDropped": ("slipway-debug", 62),
    "SlipwayMetricsUnreadable": ("slipway-debug", 63),
    "SlipwayWatchdog": ("slipway-debug", 71),
    **dict.fromkeys(
        ("SlipwayMonitoringDown", "SlipwayNoAlertmanager", "SlipwayConfigNotLoaded", "SlipwayRolloutsSilent"),
        ("slipway-debug", 72),
    ),
    **dict.fromkeys(
        ("SlipwayRuleFailures", "SlipwayRulesLate", "SlipwayAlertsNotSent", "SlipwayNotificationsFailing"),
        ("slipway-debug", 73),
    ),
    "SlipwayCostRising": ("slipway-exec", 7),
    **dict.fromkeys(("SlipwayReleaseAborted", "SlipwayReleaseWaits"), ("slipway-release", 16)),
    "SlipwayPredictionDrift": ("slipway-drift", 2),
    "SlipwayFeatureDrift": ("slipway-drift", 4),
    "SlipwayFeatureDefects": ("slipway-drift", 6),
    "SlipwayExpectedAccuracyLow": ("slipway-drift", 9),
    "SlipwayAccuracyLow": ("slipway-drift", 10),
}
"""By alert: the dashboard's uid, and the panel's number in it."""

URL: Final = "observability/dashboards/{uid}.json?var-service={service}&viewPanel={panel}"


def panel_url(alert: str, service: str) -> str:
    """The address of the alert's panel, as the annotation `dashboard_url` has it.

    Raises:
        RuntimeError: No panel shows this alert: a bug in slipway.
    """
    if alert not in PANELS:
        raise RuntimeError(f"this is a bug in slipway: no panel shows {alert}")
    uid, panel = PANELS[alert]
    return URL.format(uid=uid, service=service, panel=panel)
