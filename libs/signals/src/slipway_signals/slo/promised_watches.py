"""The alerts about capture, callers' retries and cost: each is compiled once its metrics are in `metrics.ALL`.

Drift and accuracy have rules of their own in `slipway_signals.drift`.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.watches import Drill, Input, Shapes, Watch

__all__ = ["promised_watches"]

LOST_SHARE: Final = 0.01
RETRY_SHARE: Final = 0.05
"""Half of what `Upstream` allows itself: its budget ends at a tenth of the requests, so a limit there never fires."""

COST_GROWTH: Final = 1.3
HOUR_S: Final = 3_600
WEEK_S: Final = 604_800


def promised_watches(service: str, owner: str, timing: Timing) -> Iterator[Watch]:
    """Capture completeness (M14), retries that we cause (M15), cost of an inference (M11)."""
    make = _Maker(service, owner, timing)
    yield from (make.capture(), make.retries(), make.cost())


class _Maker(Shapes):
    """Writes the watches of one service."""

    def capture(self) -> Watch:
        """Of what was chosen for capture, how much was lost."""
        name = "slipway_capture_records_total"
        return self.share(
            "SlipwayCaptureIncomplete",
            self.of(name, result="dropped").replace('result="dropped"', 'result=~"dropped|failed"'),
            self.of(name, result="written"),
            inputs=(self.of(name, model="m", result="dropped"), self.of(name, model="m", result="written")),
            limit=LOST_SHARE,
            window_s=HOUR_S,
            category="capture",
            told=(
                f"{{{{ $value | humanizePercentage }}}} of what {self.service} chose to capture is lost",
                (
                    f"{{{{ $value | humanizePercentage }}}} of the requests that {self.service} chose to capture for "
                    "the model {{ $labels.model }} in the last hour were not stored; 1% may."
                ),
            ),
        )

    def retries(self) -> Watch:
        """Attempts of our own clients that repeat one which failed."""
        attempts, retries = "slipway_client_attempts_total", "slipway_client_retries_total"
        window = self.timing.text(HOUR_S / 4)
        again = f"sum by (peer) (increase({self.of(retries)}[{window}]))"
        every = f"sum by (peer) (increase({self.of(attempts)}[{window}]))"
        labels = {"peer": "features"}
        return Watch(
            alert=self.alert(
                "SlipwayRetryStorm",
                f"{again} / ({every} > 0) > {RETRY_SHARE:g}\nand {again} >= 4",
                category="retries",
                told=(
                    f"{{{{ $value | humanizePercentage }}}} of the calls of {self.service} are repetitions",
                    (
                        f"{{{{ $value | humanizePercentage }}}} of the last 15 minutes' calls of {self.service} to "
                        "{{ $labels.peer }} were repetitions; 5% may be."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(
                        series=self.of(retries, peer="features", reason="status"),
                        kind="counter",
                        healthy=0,
                        near=90 * RETRY_SHARE,
                        faulty=200 * RETRY_SHARE,
                    ),
                    Input(series=self.of(attempts, **labels), kind="counter", healthy=100),
                ),
                detect_s=HOUR_S / 8,
                window_s=HOUR_S / 4,
                found=labels,
                value="10%",
            ),
        )

    def cost(self) -> Watch:
        """Dollars of an inference now, against a week ago at the same hour."""
        window, week = self.timing.text(HOUR_S), self.timing.text(WEEK_S)
        usd, rows = self.of("slipway_cost_usd_per_hour"), self.of("slipway_inferences_total", result="ok")
        probes = self.of("slipway_synthetic_inferences_total")

        def each(offset: str = "") -> str:
            synthetic = f"(sum(rate({probes}[{window}]{offset})) or vector(0))"
            return f"sum({usd}{offset}) / (sum(rate({rows}[{window}]{offset})) - {synthetic} > 0)"

        now, then = each(), each(f" offset {week}")
        return Watch(
            alert=self.alert(
                "SlipwayCostRising",
                f"({now}) / ({then}) > {COST_GROWTH:g}",
                category="cost",
                for_s=HOUR_S,
                told=(
                    (
                        f'An inference of {self.service} costs {{{{ $value | printf "%.1f" }}}} times '
                        "what it cost a week ago"
                    ),
                    (
                        f"For an hour an inference of {self.service} has cost "
                        '{{ $value | printf "%.1f" }} times what it cost at the same hour a week ago; '
                        "1.3 times is the limit."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(series=self.of("slipway_cost_usd_per_hour"), kind="gauge", healthy=1, near=1.17, faulty=2.6),
                    Input(
                        series=self.of("slipway_inferences_total", model="m", result="ok"), kind="counter", healthy=100
                    ),
                ),
                detect_s=0,
                window_s=WEEK_S,
                value="2.6",
            ),
        )
