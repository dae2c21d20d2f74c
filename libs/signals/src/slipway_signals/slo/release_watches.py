"""The alerts about a service's releases, made from what Argo Rollouts' controller says of the rollout of that name.

Where no controller is scraped nothing is there and nothing fires; `monitoring` tells when one falls silent. Users are
on stable meanwhile, so these are tickets. The invariant: their category is none that a deploy or a deploy window keeps
quiet, because that is when they are needed.
Source: controller/metrics of https://github.com/argoproj/argo-rollouts, v1.9.1. `rollout_info` is 1 with the phase of
now, and the series of another phase is gone; its phases are not those of the object's status, which calls three of
them `Degraded`.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.watches import Drill, Input, Shapes, Watch

__all__ = ["CATEGORY", "INFO", "asked_of", "of_rollout", "release_watches"]

CATEGORY: Final = "release"
INFO: Final = "rollout_info"
STOPPED: Final = "Abort|InvalidSpec|Timeout"
"""What the status of a rollout calls `Degraded`."""

WAITS_S: Final = 1_800


def asked_of(rollout: str) -> str:
    """How every question about the rollout of this name begins; more labels and a brace follow."""
    return f'{INFO}{{name="{rollout}"'


def of_rollout(selector: str) -> str:
    """The series with the rollout's own namespace.

    The controller's target has a namespace too, so a scrape without `honorLabels` calls the rollout's another name.
    """
    return f'label_replace({selector}, "namespace", "$1", "exported_namespace", "(.+)")'


def release_watches(service: str, owner: str, timing: Timing) -> Iterator[Watch]:
    """Stopped, standing still."""
    make = _Maker(service, owner, timing)
    yield from (make.stopped(), make.waits())


class _Maker(Shapes):
    """Writes the watches of one service."""

    def stopped(self) -> Watch:
        """At once: the controller itself has waited for its deadlines."""
        return self._in_phase(
            "SlipwayReleaseAborted",
            f'phase=~"{STOPPED}"',
            "Abort",
            told=(
                f"1 release of {self.service} was stopped, traffic is on stable",
                (
                    f"Argo Rollouts has stopped the release of {self.service} in {{{{ $labels.namespace }}}}: users "
                    "get the version before, and nothing goes on until somebody decides."
                ),
            ),
        )

    def waits(self) -> Watch:
        """The controller does not say which pause it is: one that ends by itself (`bake`) counts, too."""
        return self._in_phase(
            "SlipwayReleaseWaits",
            'phase="Paused"',
            "Paused",
            for_s=WAITS_S,
            told=(
                f"The release of {self.service} has stood still for 30 minutes",
                (
                    f"The rollout of {self.service} in {{{{ $labels.namespace }}}} has been paused for 30 minutes: it "
                    "waits for a person, or for the end of a stage's `bake`."
                ),
            ),
        )

    def _in_phase(self, name: str, matcher: str, phase: str, *, told: tuple[str, str], for_s: float = 0) -> Watch:
        """One alert a namespace, however often the controller is scraped."""
        rollout = asked_of(self.service)
        expr = f"max by (namespace) ({of_rollout(f'{rollout},{matcher}}}')})"
        kept = f'{rollout},namespace="shop",phase='
        renamed = f'{rollout},namespace="argo-rollouts",exported_namespace="shop",pod="b",phase='
        inputs = [
            each
            for start in (kept, renamed)
            for each in (
                Input(series=f'{start}"Progressing"}}', kind="gauge", healthy=1, is_gone=True),
                Input(series=f'{start}"{phase}"}}', kind="gauge", healthy=None, faulty=1),
            )
        ]
        return Watch(
            alert=self.alert(name, expr, category=CATEGORY, for_s=for_s, told=told),
            drill=Drill(inputs=tuple(inputs), detect_s=0, found={"namespace": "shop"}, has_near_miss=False),
        )
