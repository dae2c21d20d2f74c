"""The alerts about a service that other exporters make possible: kube-state-metrics, cAdvisor, DCGM.

Where those are not installed nothing is absent and nothing fires. The container is named like the service.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.watches import Drill, Input, Shapes, Watch

__all__ = ["platform_watches"]

MEMORY_SHARE: Final = 0.9
GPU_MEMORY_SHARE: Final = 0.95
RESTARTS: Final = 3
HOUR_S: Final = 3_600
QUARTER_S: Final = 900


def platform_watches(service: str, owner: str, timing: Timing) -> Iterator[Watch]:
    """Pods, memory, GPU memory."""
    make = _Maker(service, owner, timing)
    yield from (make.pod_restarts(), make.memory(), make.gpu_memory())


class _Maker(Shapes):
    """Writes the watches of one service."""

    def pod_restarts(self) -> Watch:
        """Three in an hour: one is a deploy or a node, three are a pattern."""
        name = f'kube_pod_container_status_restarts_total{{container="{self.service}"'
        growth = RESTARTS * 30 / HOUR_S
        return Watch(
            alert=self.alert(
                "SlipwayPodRestarts",
                f"sum by (pod) (increase({name}}}[{self.timing.text(HOUR_S)}])) > {RESTARTS - 0.5:g}",
                category="restart",
                told=(
                    f'A pod of {self.service} was restarted {{{{ $value | printf "%.0f" }}}} times in the last hour',
                    (
                        f"The container of {self.service} in {{{{ $labels.pod }}}} was restarted "
                        '{{ $value | printf "%.0f" }} times in the last hour.'
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(
                        series=f'{name},pod="p"}}',
                        kind="counter",
                        healthy=0,
                        near=growth * 0.9 * (RESTARTS - 0.5) / RESTARTS,
                        faulty=growth * 2,
                    ),
                ),
                detect_s=(RESTARTS - 0.5) / (2 * RESTARTS) * HOUR_S,
                window_s=HOUR_S,
                found={"pod": "p"},
                value=f"{2 * RESTARTS}",
            ),
        )

    def memory(self) -> Watch:
        """The working set is what the kernel compares with the limit before it kills."""
        used = f'container_memory_working_set_bytes{{container="{self.service}"'
        limit = f'kube_pod_container_resource_limits{{container="{self.service}",resource="memory"'
        return Watch(
            alert=self.alert(
                "SlipwayMemoryNearLimit",
                f"max by (pod) ({used}}}) / on (pod) max by (pod) ({limit}}}) > {MEMORY_SHARE:g}",
                category="capacity",
                for_s=QUARTER_S,
                told=(
                    f"A pod of {self.service} uses {{{{ $value | humanizePercentage }}}} of its memory limit",
                    (
                        f"{{{{ $labels.pod }}}} of {self.service} has been using {{{{ $value | humanizePercentage }}}} "
                        "of its memory limit for 15 minutes; at 100% the kernel kills it."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(series=f'{used},pod="p"}}', kind="gauge", healthy=500, near=810, faulty=950),
                    Input(series=f'{limit},pod="p"}}', kind="gauge", healthy=1_000),
                ),
                detect_s=0,
                found={"pod": "p"},
                value="95%",
            ),
        )

    def gpu_memory(self) -> Watch:
        """A full device refuses the next batch shape or the next model."""
        used = f'DCGM_FI_DEV_FB_USED{{container="{self.service}"'
        free = f'DCGM_FI_DEV_FB_FREE{{container="{self.service}"'
        labels = {"gpu": "0", "Hostname": "n"}
        inside = ',gpu="0",Hostname="n"}'
        every = f"(sum by (Hostname, gpu) ({used}}}) + sum by (Hostname, gpu) ({free}}}))"
        return Watch(
            alert=self.alert(
                "SlipwayGpuMemoryFull",
                f"sum by (Hostname, gpu) ({used}}}) / {every} > {GPU_MEMORY_SHARE:g}",
                category="capacity",
                for_s=QUARTER_S,
                told=(
                    f"The memory of a GPU of {self.service} is {{{{ $value | humanizePercentage }}}} full",
                    (
                        f"GPU {{{{ $labels.gpu }}}} of {{{{ $labels.Hostname }}}}, on which {self.service} runs, has "
                        "had {{ $value | humanizePercentage }} of its memory in use for 15 minutes."
                    ),
                ),
            ),
            drill=Drill(
                inputs=(
                    Input(series=used + inside, kind="gauge", healthy=500, near=855, faulty=980),
                    Input(series=free + inside, kind="gauge", healthy=500, near=145, faulty=20),
                ),
                detect_s=0,
                found=labels,
                value="98%",
            ),
        )
