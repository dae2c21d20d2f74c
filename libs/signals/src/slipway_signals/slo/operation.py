"""The alerts that every service has whatever its objectives are: targets, workers, models, queues.

Each asks a metric that slipway counts or that a named exporter brings; what users feel is judged by the objectives, so
nearly all of these are tickets. The invariant: a condition on a share also asks for a few events, because one of two
proves nothing.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.watches import Drill, Input, Shapes, Watch

__all__ = ["operation_watches"]

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DOWN_S: Final = 60
"""All errors at a target of 99.9 % page after 52 s; no answer at all must not take longer."""

COLD_SHARE: Final = 0.01
SHED_SHARE: Final = 0.05
WAIT_S: Final = 0.25
WAIT_SHARE: Final = 0.05
LAG_S: Final = 0.1
LAG_SHARE: Final = 0.05
ERROR_SHARE: Final = 0.01
LOAD_S: Final = 10.0
LOST_SIGNALS: Final = 10
OTHER_THAN_RUNNERS: Final = "api-[0-9]+|dispatcher|exporter|.+-compactor"
"""Names of workers; a runner that dies is told as a replica that its pool lost, with the reason, and not twice."""


def operation_watches(service: str, owner: str, timing: Timing) -> Iterator[Watch]:
    """All of them, the gravest first."""
    make = _Maker(service, owner, timing)
    yield from (make.down(), make.target_down(), make.crash_loop(), make.restarts(), make.losses())
    yield from (make.not_ready(), make.load_slow(), make.cold())
    yield from (make.shedding(), make.waiting(), make.held(), make.errors(), make.quarantine())
    yield from (make.telemetry(), make.unreadable(), make.deploy())


class _Maker(Shapes):
    """Writes the watches of one service."""

    def down(self) -> Watch:
        """A supervisor answers scrapes also when none of its workers can answer anybody: it says so itself."""
        up, ready = self.of("up"), self.of("slipway_server_ready")
        return Watch(
            alert=self.alert(
                "SlipwayServiceDown",
                f"absent({up} == 1 unless on (job, instance) {ready} == 0)",
                category="availability",
                severity="page",
                for_s=self.timing.of(DOWN_S),
                told=(
                    f"{self.service} is down: 0 of its targets can answer",
                    (
                        f"For a minute no target of {self.service} could be scraped, or none had a worker that was "
                        "ready: nobody answers, or nobody is reachable."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(Input(series=self.of("up", instance="a"), kind="gauge", healthy=1, faulty=0),),
                detect_s=0,
                has_near_miss=False,
            ),
        )

    def target_down(self) -> Watch:
        return self.yes_or_no(
            "SlipwayTargetDown",
            f"{self.of('up')} == 0",
            Input(series=self.of("up", instance="a"), kind="gauge", healthy=1, faulty=0),
            found={"instance": "a"},
            category="monitoring",
            told=(
                f"A target of {self.service} has been down for 5 minutes",
                f"{{{{ $labels.instance }}}} of {self.service} could not be scraped for 5 minutes.",
            ),
        )

    def crash_loop(self) -> Watch:
        return self.yes_or_no(
            "SlipwayWorkerCrashLoop",
            f"max by (worker) ({self.of('slipway_worker_crash_looping')}) == 1",
            Input(series=self.of("slipway_worker_crash_looping", worker="api-0"), kind="gauge", healthy=0, faulty=1),
            found={"worker": "api-0"},
            category="restart",
            told=(
                f"A worker of {self.service} has been dying again and again for 5 minutes",
                f"The worker {{{{ $labels.worker }}}} of {self.service} has been dying after each start for 5 minutes.",
            ),
        )

    def not_ready(self) -> Watch:
        """Workers say it of the models they hold; a pool without a replica has nobody left to say it."""
        ready, replicas = self.of("slipway_model_ready"), self.of("slipway_pool_replicas", state="active")
        return self.yes_or_no(
            "SlipwayModelNotReady",
            f"min by (model) ({ready}) == 0\n"
            f'or min by (model) (label_replace({replicas}, "model", "$1", "pool", "(.+)")) == 0',
            Input(series=self.of("slipway_model_ready", model="m"), kind="gauge", healthy=1, faulty=0),
            found={"model": "m"},
            category="restart",
            told=(
                f"A model of {self.service} has not been ready for 5 minutes",
                (
                    f"Some worker of {self.service} has not been ready to answer with the model "
                    "{{ $labels.model }} for 5 minutes, or the pool of that name has had no replica."
                ),
            ),
        )

    def unreadable(self) -> Watch:
        return self.yes_or_no(
            "SlipwayMetricsUnreadable",
            f"sum({self.of('slipway_metrics_unreadable_slots')}) > 0",
            Input(series=self.of("slipway_metrics_unreadable_slots"), kind="gauge", healthy=0, faulty=2),
            value="2",
            category="monitoring",
            told=(
                f"The metrics of {{{{ $value }}}} workers of {self.service} cannot be read",
                (
                    f"The metrics of {{{{ $value }}}} workers of {self.service} could not be read for 5 minutes: "
                    "every rate of this service is too low."
                ),
            ),
        )

    def restarts(self) -> Watch:
        return self.count(
            "SlipwayWorkerRestarts",
            "slipway_worker_restarts_total",
            {"worker": "api-0"},
            category="restart",
            only=f'worker=~"{OTHER_THAN_RUNNERS}"',
            told=(
                f'Workers of {self.service} died {{{{ $value | printf "%.0f" }}}} times in the last hour',
                (
                    f"Workers of {self.service}, runners of its pools aside, died and were started again "
                    '{{ $value | printf "%.0f" }} times in the last hour.'
                ),
            ),
        )

    def losses(self) -> Watch:
        return self.count(
            "SlipwayReplicaLosses",
            "slipway_pool_replica_losses_total",
            {"pool": "p", "reason": "memory"},
            by=("pool", "reason"),
            category="restart",
            told=(
                f'{self.service} lost {{{{ $value | printf "%.0f" }}}} replicas of a runner pool in the last hour',
                (
                    f"The pool {{{{ $labels.pool }}}} of {self.service} lost "
                    '{{ $value | printf "%.0f" }} replicas in the last hour; reason: {{ $labels.reason }}.'
                ),
            ),
        )

    def quarantine(self) -> Watch:
        return self.count(
            "SlipwayPoisonedRequests",
            "slipway_pool_quarantined_total",
            {"model": "m"},
            by=("model",),
            category="quality",
            told=(
                f'{{{{ $value | printf "%.0f" }}}} requests to {self.service} killed their runners',
                (
                    '{{ $value | printf "%.0f" }} requests in the last hour were refused because they, or '
                    f"their equals, killed two runners of the model {{{{ $labels.model }}}} of {self.service}."
                ),
            ),
        )

    def telemetry(self) -> Watch:
        return self.count(
            "SlipwayTelemetryDropped",
            "slipway_telemetry_dropped_total",
            {"signal": "series"},
            by=("signal",),
            least=LOST_SIGNALS,
            category="monitoring",
            told=(
                f'{self.service} lost {{{{ $value | printf "%.0f" }}}} signals of its telemetry in the last hour',
                (
                    f'{self.service} dropped {{{{ $value | printf "%.0f" }}}} signals of the kind '
                    "{{ $labels.signal }} in the last hour."
                ),
            ),
        )

    def cold(self) -> Watch:
        return self.share(
            "SlipwayColdStarts",
            self.of("slipway_cold_requests_total"),
            self.of("slipway_requests_admitted_total"),
            inputs=(
                self.of("slipway_cold_requests_total", model="m"),
                self.of("slipway_requests_admitted_total", model="m"),
            ),
            is_rest_whole=True,
            limit=COLD_SHARE,
            window_s=HOUR_S,
            category="cold-start",
            told=(
                f"{{{{ $value | humanizePercentage }}}} of the requests to {self.service} wait for cold replicas",
                (
                    f"{{{{ $value | humanizePercentage }}}} of the last hour's requests for the model "
                    f"{{{{ $labels.model }}}} of {self.service} waited until a replica was ready; 1% may."
                ),
            ),
        )

    def shedding(self) -> Watch:
        return self.share(
            "SlipwayShedding",
            self.of("slipway_requests_shed_total"),
            self.of("slipway_requests_admitted_total"),
            inputs=(
                self.of("slipway_requests_shed_total", model="m", reason="queue_full"),
                self.of("slipway_requests_admitted_total", model="m"),
            ),
            limit=SHED_SHARE,
            window_s=5 * MINUTE_S,
            for_s=10 * MINUTE_S,
            category="capacity",
            told=(
                f"{{{{ $value | humanizePercentage }}}} of the requests to {self.service} are refused at the door",
                (
                    f"For 10 minutes {{{{ $value | humanizePercentage }}}} of the requests for the model "
                    f"{{{{ $labels.model }}}} of {self.service} have been refused because they could not be "
                    "answered in time."
                ),
            ),
        )

    def errors(self) -> Watch:
        return self.share(
            "SlipwayInferenceErrors",
            self.of("slipway_inferences_total", result="error"),
            self.of("slipway_inferences_total", result="ok"),
            inputs=(
                self.of("slipway_inferences_total", model="m", result="error"),
                self.of("slipway_inferences_total", model="m", result="ok"),
            ),
            limit=ERROR_SHARE,
            window_s=15 * MINUTE_S,
            category="quality",
            told=(
                f"A model of {self.service} fails on {{{{ $value | humanizePercentage }}}} of its rows",
                (
                    f"{{{{ $value | humanizePercentage }}}} of the last 15 minutes' rows of the model "
                    f"{{{{ $labels.model }}}} of {self.service} got an error from it."
                ),
            ),
        )

    def waiting(self) -> Watch:
        return self.late(
            "SlipwayQueueWait",
            "slipway_queue_wait_seconds",
            {"model": "m"},
            limit_s=WAIT_S,
            limit=WAIT_SHARE,
            window_s=15 * MINUTE_S,
            category="capacity",
            told=(
                f"{{{{ $value | humanizePercentage }}}} of the batches of {self.service} wait long in the queue",
                (
                    f"The oldest row waited more than {WAIT_S} s in {{{{ $value | humanizePercentage }}}} of the "
                    f"last 15 minutes' batches of the model {{{{ $labels.model }}}} of {self.service}."
                ),
            ),
        )

    def held(self) -> Watch:
        """Clocks of requests start when they are read: what holds the interpreter before that no objective sees."""
        return self.late(
            "SlipwayEventLoopHeld",
            "slipway_event_loop_lag_seconds",
            {},
            limit_s=LAG_S,
            limit=LAG_SHARE,
            window_s=5 * MINUTE_S,
            for_s=10 * MINUTE_S,
            category="capacity",
            told=(
                f"For {{{{ $value | humanizePercentage }}}} of the time {self.service} reads no request",
                (
                    f"For 10 minutes a request to {self.service} has had to wait more than {LAG_S} s before an API "
                    "worker read it, in {{ $value | humanizePercentage }} of the time: something holds the interpreter."
                ),
            ),
        )

    def load_slow(self) -> Watch:
        """A histogram is born with its first load, so a rate would not see it: the count itself is compared."""
        name, window = "slipway_model_load_duration_seconds", self.timing.text(HOUR_S)
        every, quick = self.of(name + "_count"), self.of(name + "_bucket", le=str(LOAD_S))
        slow = f"(sum by (model) ({every}) - sum by (model) ({quick}))"
        before = f"(sum by (model) ({every} offset {window}) - sum by (model) ({quick} offset {window}))"
        labels = {"model": "m"}
        return Watch(
            alert=self.alert(
                "SlipwayModelLoadSlow",
                f"({slow} - {before} or {slow}) > 0",
                category="cold-start",
                told=(
                    f"A model of {self.service} took longer than {LOAD_S:g} s to load, {{{{ $value }}}} times",
                    (
                        f"The model {{{{ $labels.model }}}} of {self.service} took longer than {LOAD_S:g} s to load "
                        "and answer, {{ $value }} times in the last hour."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(series=self.of(name + "_count", **labels), kind="gauge", healthy=2, faulty=4),
                    Input(
                        series=self.of(name + "_bucket", **labels, le=str(LOAD_S)), kind="gauge", healthy=2, faulty=2
                    ),
                ),
                detect_s=0,
                window_s=HOUR_S,
                found=labels,
                value="2",
                steady_s=0,
                has_near_miss=False,
            ),
        )

    def deploy(self) -> Watch:
        """Wakes nobody: while it holds, Alertmanager keeps quiet what a rollout causes."""
        info, window = self.of("slipway_build_info"), self.timing.text(15 * MINUTE_S)
        labels = {"version": "2", "digest": "sha256:b"}
        return Watch(
            alert=self.alert(
                "SlipwayDeployInProgress",
                f"count by (version, digest) ({info}) unless count by (version, digest) ({info} offset {window})",
                category="deploy",
                severity="info",
                told=(
                    f"{self.service} is being deployed",
                    (
                        f"The digest {{{{ $labels.digest }}}} of {self.service} appeared less than 15 minutes ago: "
                        "tickets about restarts, cold starts and capacity wait."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(
                        series=self.of("slipway_build_info", version="1", digest="sha256:a"), kind="gauge", healthy=1
                    ),
                    Input(series=self.of("slipway_build_info", **labels), kind="gauge", healthy=None, faulty=1),
                ),
                detect_s=0,
                window_s=15 * MINUTE_S,
                found=labels,
                steady_s=0,
                has_near_miss=False,
            ),
        )
