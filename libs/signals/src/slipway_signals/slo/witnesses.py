"""Label values that some matchers accept and others refuse: the events that a test is made of.

It tries values that the matchers themselves mention, which finds what people write and proves nothing beyond that.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final

from slipway_signals.slo.selectors import Matcher, Selector

__all__ = ["problem_of_events", "witness"]

COMMON: Final = ("200", "POST", "x")
MAX_TRIED: Final = 4_096


def witness(inside: Iterable[Selector], outside: Iterable[Selector] = ()) -> dict[str, str] | None:
    """Labels of a series that all of `inside` select and none of `outside`, or None when none is found."""
    inside, outside = tuple(inside), tuple(outside)
    matchers = [matcher for selector in (*inside, *outside) for matcher in selector.matchers]
    labels = list(dict.fromkeys(matcher.label for matcher in matchers))
    choices = [_candidates(label, matchers) for label in labels]
    for tried, values in enumerate(product(*choices)):
        found = dict(zip(labels, values, strict=True))
        if all(_selects(one, found) for one in inside) and not any(_selects(one, found) for one in outside):
            return found
        if tried > MAX_TRIED:
            return None
    return None


def problem_of_events(part: Selector, total: Selector, counts: str) -> str | None:
    """Why events cannot be told good from bad, or None; only selectors of one metric can be compared."""
    if part.metric != total.metric:
        return None
    if witness([part, total]) is None:
        return f"no event of the total is {counts}"
    if witness([total], [part]) is None:
        return f"every event of the total is {counts}"
    if witness([part], [total]) is not None:
        return f"it counts {counts} events that the total does not count"
    return None


def _selects(selector: Selector, labels: dict[str, str]) -> bool:
    return all(matcher.accepts(labels.get(matcher.label, "")) for matcher in selector.matchers)


def _candidates(label: str, matchers: Iterable[Matcher]) -> list[str]:
    """What is accepted alone first: fewer tries, and plain values in the tests."""
    own = [matcher for matcher in matchers if matcher.label == label]
    found = dict.fromkeys([*_mentioned(own), *COMMON])
    return list(found)


def _mentioned(matchers: Iterable[Matcher]) -> Iterator[str]:
    for matcher in matchers:
        if matcher.operator in {"=", "!="}:
            yield matcher.value
            continue
        for part in re.sub(r"[()^$]", "", matcher.value).split("|"):
            yield re.sub(r"\\(.)", r"\1", re.sub(r"\.[*+]?", "0", part))
