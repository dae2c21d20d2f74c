"""Judging the images of a pod: each one is named by digest and is a bundle that `policy.toml` allows, or is exempt.

It speaks to nobody but through `fetch`. The invariants: what cannot be judged (no answer of the registry, no bundle, a
tag) is refused, so that an outage never lets anything in; a yes is believed for `cache_s` and no longer, because keys
and exceptions expire; a change of the policy forgets every yes.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from slipway_bundle import Policy, SlipwayError, Store
from slipway_bundle.digest import Digest
from slipway_bundle.registry import Remote, parse_remote
from slipway_bundle.trust.evaluation import evaluate
from slipway_bundle.trust.findings import Finding, Verdict

__all__ = ["Fetch", "Judge", "Judgement", "name_of"]

logger = logging.getLogger(__name__)

KEPT: Final = 4_096
"""Verdicts that are remembered at most."""

Fetch = Callable[[Remote], AbstractContextManager[tuple[Store, Digest]]]
"""Brings the documents and referrers of a bundle into a store, which is there for the length of the `with` block."""


class Judgement(Struct, frozen=True, kw_only=True):
    """The answer about one image."""

    image: str
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Judge:
    """Judges images; any thread may ask.

    Args:
        policy: the rules.
        fetch: where bundles come from.
        cache_s: seconds that a yes is believed; a no is asked again each time, so that what was mended gets in at once.
        now: the wall clock, aware.
    """

    def __init__(
        self,
        policy: Policy,
        fetch: Fetch,
        *,
        cache_s: float = 60.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._policy = policy
        self._fetch = fetch
        self._cache_s = cache_s
        self._now = now
        self._known: OrderedDict[str, tuple[datetime, Judgement]] = OrderedDict()
        self._lock = threading.Lock()

    def follow(self, policy: Policy) -> None:
        """Judge by another policy from now on."""
        with self._lock:
            self._policy = policy
            self._known.clear()

    def judge(self, images: Sequence[str]) -> tuple[Judgement, ...]:
        """One judgement an image, in their order. Never raises what a registry or a bundle causes."""
        return tuple(map(self._one, images))

    def _one(self, image: str) -> Judgement:
        now, policy = self._now(), self._policy
        with self._lock:
            known = self._known.get(image)
        if known is not None and (now - known[0]).total_seconds() < self._cache_s:
            return known[1]
        if any(fnmatchcase(name_of(image), pattern) for pattern in policy.admission.exempt):
            return Judgement(image=image)
        judged = self._bundle(image, policy, now)
        if not judged.refusals:
            with self._lock:
                if policy is self._policy:
                    self._known[image] = (now, judged)
                    if len(self._known) > KEPT:
                        self._known.popitem(last=False)
        logger.info("%s: %s", image, "; ".join(judged.refusals) or "allowed")
        return judged

    def _bundle(self, image: str, policy: Policy, now: datetime) -> Judgement:
        try:
            remote = parse_remote(name_of(image) + image[len(image.partition("@")[0]) :])
            if remote.digest is None:
                said = "it is named by tag, expected a digest (`slipway bundle push` prints the name with one)"
                return Judgement(image=image, refusals=(f"image {image!r}: {said}",))
            with self._fetch(remote) as (store, digest):
                verdict = evaluate(store, digest, policy, now=now)
        except SlipwayError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return Judgement(image=image, refusals=(f"image {image!r} cannot be judged: {error.message}{hint}",))
        return _judgement(image, verdict)


def name_of(image: str) -> str:
    """Registry and repository of an image's name as Kubernetes reads it: `nginx:1` is `docker.io/library/nginx`."""
    name = image.partition("@")[0]
    first, slash, rest = name.partition("/")
    if not slash:
        first, rest = "docker.io", f"library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        first, rest = "docker.io", name
    return f"{first}/{rest.partition(':')[0]}"


def _judgement(image: str, verdict: Verdict) -> Judgement:
    refused = tuple(f"image {image!r}: {_text(one)}" for one in verdict.findings if one.status == "refused")
    warned = tuple(f"image {image!r}: {_text(one)}" for one in verdict.findings if one.status == "warning")
    if not verdict.is_allowed and not refused:
        refused = (f"image {image!r} is refused, and no rule says why: this is a bug in slipway",)
    return Judgement(image=image, refusals=refused, warnings=warned)


def _text(finding: Finding) -> str:
    hint = f" ({finding.hint})" if finding.hint else ""
    return f"rule {finding.rule}: {finding.claim}{hint}"
