"""Which releases of a service are and were served, and since when: read from `slipway_build_info`.

It judges nothing. A folder that is served has no digest; such a release is known by its version alone.
The invariant: a release that went and came back is dated by its coming back.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from slipway_signals.prometheus import Prometheus
from slipway_signals.runbooks import fill

__all__ = ["LADDER", "QUICK", "Ladder", "Release", "previous_of", "releases_of", "runs_of", "served_of"]

EVERY: Final = "count by (service, version, digest, track) (slipway_build_info)"
ONE: Final = 'count by (service, version, digest, track) (slipway_build_info{service="$service"})'
Ladder = Sequence[tuple[float, float]]
LADDER: Final[Ladder] = ((1_800.0, 2.0), (21_600.0, 15.0), (2_592_000.0, 3_600.0))
"""How far back, and how exactly: what began within the half hour is known to 2 s, what began last week to an hour.
At most 1,440 points a line, where Prometheus gives 11,000."""

QUICK: Final[Ladder] = LADDER[:2]
"""Of the last six hours only: two questions, for what asks every few seconds."""

CANARY: Final = "canary"
"""The label `track` of what is on trial; targets without it are told apart by time alone."""

GAP_STEPS: Final = 3
"""So many points without a value, and it is another run."""


class Release(Struct, frozen=True, kw_only=True):
    """A version of a service while it was served."""

    service: str
    version: str
    digest: str
    """Of its bundle, `sha256:…`; empty where a folder is served."""

    track: str
    """`stable`, `canary`, …; empty where targets have no such label."""

    since: float
    """Unix seconds: when it was seen first, after the last time that it was not there."""

    is_since_known: bool
    """False: it was there before the oldest sample that was looked at."""

    until: float | None
    """When it was seen last; None while it is served."""

    @property
    def title(self) -> str:
        """`1.1.0 (sha256:ab12cd34ef56, canary)`."""
        inside = ", ".join(part for part in (self.digest[:19] or "a folder", self.track) if part)
        return f"{self.version} ({inside})"


def releases_of(
    prometheus: Prometheus, now: float, service: str | None = None, *, ladder: Ladder = LADDER
) -> tuple[Release, ...]:
    """What is served now and what was as far back as the ladder reaches, the youngest first.

    Args:
        prometheus: Whom to ask; one question a rung.
        now: Unix seconds.
        service: Of one, or of all.
        ladder: `LADDER` or `QUICK`.

    Raises:
        PrometheusError: it cannot be asked.
    """
    query = EVERY if service is None else fill(ONE, {"service": service}, into="promql")
    found: dict[tuple[str, ...], Release] = {}
    for window_s, step_s in ladder:
        start = now - window_s
        for series in prometheus.range(query, start, now, step_s):
            key = tuple(series.labels.get(label, "") for label in ("service", "version", "digest", "track"))
            first, last = runs_of([at for at, _ in series.points], step_s)[-1]
            known = found.get(key)
            if known is not None and known.is_since_known:
                continue
            found[key] = Release(
                service=key[0],
                version=key[1],
                digest=key[2],
                track=key[3],
                since=first,
                is_since_known=first > start + step_s,
                until=known.until if known is not None else None if last > now - 2 * step_s else last,
            )
    return tuple(sorted(found.values(), key=lambda release: (-release.since, release.service, release.version)))


def runs_of(moments: Sequence[float], step_s: float) -> list[tuple[float, float]]:
    """First and last moment of each stretch without a gap, in order; `moments` are sorted and not empty."""
    runs = [(moments[0], moments[0])]
    for at in moments[1:]:
        first, last = runs[-1]
        if at - last > GAP_STEPS * step_s:
            runs.append((at, at))
        else:
            runs[-1] = (first, at)
    return runs


def served_of(releases: Sequence[Release]) -> tuple[Release, ...]:
    """Those that are served now: canaries first, because they are on trial, then the youngest first."""
    served = (release for release in releases if release.until is None)
    return tuple(sorted(served, key=lambda release: (release.track != CANARY, -release.since)))


def previous_of(releases: Sequence[Release]) -> Release | None:
    """What to go back to: what is served beside the first of `served_of`, else what was served last before it.

    None where there is no other digest: a folder keeps no version to go back to.
    """
    served = served_of(releases)
    if not served:
        return None
    others = [release for release in releases if release.digest and release.digest != served[0].digest]
    beside = [release for release in served_of(others) if release.track != CANARY]
    gone = sorted((release for release in others if release.until is not None), key=lambda release: release.until or 0)
    return beside[-1] if beside else gone[-1] if gone else None
