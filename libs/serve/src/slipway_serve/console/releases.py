"""Which release of which service is served, and since when; remembered, so that one query a page is enough.

`slipway_signals.oncall_releases` finds out since when, by queries over a month; they are asked again when what is
served changes.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from slipway_signals.oncall_releases import Release, releases_of, served_of
from slipway_signals.prometheus import Prometheus

SERVED: Final = "count by (service, version, digest, track) (slipway_build_info)"
_Key = tuple[str, str, str, str]


class Served(Struct, frozen=True, kw_only=True):
    """A release that a service serves now."""

    release: Release
    targets: int
    """How many targets say so; 0: it was served last, and no target of the service answers now."""


class Releases:
    """What is served; threads may share it."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._known: tuple[frozenset[_Key], tuple[Release, ...]] = (frozenset(), ())

    def served(self, now: float) -> tuple[Served, ...]:
        """What is served at `now` (Unix seconds), by service, the youngest first; what was, where nobody answers now.

        Raises:
            PrometheusError: it cannot be asked.
        """
        targets = {_key(sample.labels): int(sample.value) for sample in self._prometheus.instant(SERVED)}
        kinds, releases = self._known
        if kinds != targets.keys():
            releases = served_of(releases_of(self._prometheus, now))
            # What began this second may be in one answer and not in the other: it is asked for again.
            is_whole = targets.keys() <= {_key_of(one) for one in releases}
            self._known = (frozenset(targets) if is_whole else frozenset(), releases)
        answering = {service for service, *_ in targets}
        found = [
            Served(release=one, targets=targets.get(_key_of(one), 0))
            for one in releases
            if _key_of(one) in targets or one.service not in answering
        ]
        return tuple(sorted(found, key=lambda one: (one.release.service, one.targets == 0, -one.release.since)))


def _key_of(release: Release) -> _Key:
    return (release.service, release.version, release.digest, release.track)


def _key(labels: Mapping[str, str]) -> _Key:
    return (labels.get("service", ""), labels.get("version", ""), labels.get("digest", ""), labels.get("track", ""))
