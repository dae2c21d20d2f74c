"""What the arms' admin ports say at the end of a window: their figures, and which bundles they serve. Blocks.

It judges nothing; `slipway_signals.gate.scraping` reads the page. The invariant: it never raises and takes `TIMEOUT_S`
an arm at most; what could not be asked is a `Scrape` that says why.
"""

import time
from typing import Final, NamedTuple

import msgspec

from slipway_signals import metrics
from slipway_signals.gate.records import Counts, Scrape
from slipway_signals.gate.scraping import ArmScrapes, scrape_of

__all__ = ["ArmFacts", "facts_of", "named"]

TIMEOUT_S: Final = 2.0
PAGE_BYTES: Final = 8 << 20


class ArmFacts(NamedTuple):
    """One arm at one time."""

    scrape: Scrape
    digests: tuple[str, ...]
    """Of the bundles that its processes serve, sorted; () where the page does not say."""


def facts_of(admin: str, scrapes: ArmScrapes) -> ArmFacts:
    """Ask one admin port, on a connection of its own; blocks up to `TIMEOUT_S`.

    Args:
        admin: Its address; many processes may be behind it.
        scrapes: All of the arm until now; this one is added.
    """
    import httpx  # not needed by a split that asks no admin port

    try:
        answer = httpx.get(f"{admin.rstrip('/')}/metrics", timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        return ArmFacts(Scrape(ok=False, problem=f"{admin} cannot be asked: {error or type(error).__name__}"), ())
    if answer.status_code != 200 or len(answer.content) > PAGE_BYTES:
        problem = f"{admin} answered {answer.status_code} with {len(answer.content)} bytes"
        return ArmFacts(Scrape(ok=False, problem=problem), ())
    scrape = scrape_of(answer.text, date=answer.headers.get("date"), now=time.time())
    digests = _digests(answer.text) if scrape.ok else ()
    return ArmFacts(scrapes.add(scrape, answer.headers.get(metrics.INSTANCE_HEADER)), digests)


def named(counts: Counts, digests: tuple[str, ...]) -> Counts:
    """The counts with answers that did not say who gave them put under the digests that the admin port names.

    Users' answers name no bundle (watching.py): where the port names one, it is theirs; where it names several, which
    of them answered is not known, and each stands for a part.
    """
    silent = counts.digests.get("", 0)
    if not silent or not digests:
        return counts
    spread = {name: count for name, count in counts.digests.items() if name}
    for place, digest in enumerate(digests):
        part = silent // len(digests) + (place < silent % len(digests))
        if part:
            spread[digest] = spread.get(digest, 0) + part
    return msgspec.structs.replace(counts, digests=spread)


def _digests(page: str) -> tuple[str, ...]:
    from prometheus_client.parser import text_string_to_metric_families

    found = {
        sample.labels.get("digest", "")
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == metrics.BUILD_INFO.name and sample.value == 1
    }
    return tuple(sorted(found - {""}))
