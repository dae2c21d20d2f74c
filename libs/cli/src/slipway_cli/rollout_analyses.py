"""What the analyses of a rollout said, for a person: AnalysisRuns of Argo Rollouts, the newest first.

It decides nothing: a run that says nothing about what went wrong is shown with its phase alone.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from slipway_cli.rollouts import HASH, Metadata, Rollout

__all__ = ["Analysis", "analyses_of"]


class Analysis(Struct, frozen=True, kw_only=True):
    """What an analysis of the current pods said."""

    name: str
    hash: str
    began: str
    phase: str
    text: str


class _Metric(Struct, frozen=True):
    name: str = ""
    phase: str = ""
    message: str = ""


class _AnalysisStatus(Struct, frozen=True, rename="camel"):
    phase: str = ""
    message: str = ""
    metric_results: tuple[_Metric, ...] = ()


class _AnalysisDocument(Struct, frozen=True):
    metadata: Metadata
    status: _AnalysisStatus = _AnalysisStatus()


class _Analyses(Struct, frozen=True):
    items: tuple[_AnalysisDocument, ...] = ()


def analyses_of(rollout: Rollout, data: bytes) -> tuple[Analysis, ...]:
    """The runs of `kubectl get analysisruns -o json` that are the rollout's, the newest first."""
    found = [
        Analysis(
            name=one.metadata.name,
            hash=one.metadata.labels.get(HASH, ""),
            began=one.metadata.creation_timestamp,
            phase=one.status.phase or "Pending",
            text=one.status.message or _worst(one.status.metric_results),
        )
        for one in msgspec.json.decode(data, type=_Analyses).items
        if rollout.uid in {owner.uid for owner in one.metadata.owner_references}
    ]
    return tuple(sorted(found, key=lambda each: (each.began, each.name), reverse=True))


def _worst(metrics: Sequence[_Metric]) -> str:
    bad = [one for one in metrics if one.phase not in {"Successful", "Running", "Pending", ""}]
    return "; ".join(f"{one.name} {one.phase}{': ' + one.message if one.message else ''}" for one in bad)
