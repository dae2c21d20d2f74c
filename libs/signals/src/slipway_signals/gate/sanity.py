"""Is the measurement itself sound? What is not, is a finding, and nothing passes with one.

It compares no arms for speed or answers, and asks no clock. The invariant: a finding never makes a candidate fail; one
that says that the wrong things were compared (`voids="any"`) keeps comparison from failing it, too.
Sample ratio: Fabijan et al., "Diagnosing Sample Ratio Mismatch" (KDD 2019); the test, valid at every look, is that of
Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data" (2020): a Beta mixture against the planned share.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from slipway_signals.gate.plan import GatePlan, Limits
from slipway_signals.gate.records import ARMS, Arm, Scrape
from slipway_signals.gate.totals import Totals
from slipway_signals.gate.verdict import Criterion, Finding

__all__ = ["findings_of"]

PRIOR: Final = 100.0
"""Weight, in requests, of the planned share in the mixture."""

SPLIT_OFF: Final = 0.2
"""Of a split by users, a share may be off by so much of itself: heavy users are not spread evenly."""

MISSED: Final = 0.1
"""Share of scrapes that may fail."""

HARDLY: Final = 0.9
"""Share of the pairs that must have been compared, of those of which both arms answered."""


def findings_of(plan: GatePlan, totals: Totals, criteria: tuple[Criterion, ...]) -> tuple[Finding, ...]:
    """All that is wrong with what was counted until now, in a fixed order."""
    return (
        *_amounts(plan, totals),
        *_windows(plan, totals),
        *_identity(plan, totals),
        *_ratios(plan, totals),
        *_pairs(plan, totals),
        *_generator(plan.limits, totals),
        *_scrapes(plan, totals, criteria),
        *_contention(plan.limits, totals),
    )


def _amounts(plan: GatePlan, totals: Totals) -> Iterator[Finding]:
    for arm in ARMS:
        settled = totals.arms[arm].settled
        if settled < plan.at_least:
            text = f"{arm} answered {settled} requests, expected at least {plan.at_least}"
            yield Finding(code="too_few_requests", text=text, arm=arm)
    if totals.seconds + 1e-6 < plan.at_least_s:
        text = f"{totals.seconds:.3g} s were judged, expected at least {plan.at_least_s:g} s"
        yield Finding(code="too_short", text=text)
    if plan.source == "load":
        open_ = {arm: max(0, totals.arms[arm].sent - totals.arms[arm].settled) for arm in ARMS}
        surplus = open_["candidate"] - open_["stable"]
        # Who hangs is not slow until it is too late: these would be missing from every quantile.
        if surplus > 5.0 + 4.0 * math.sqrt(open_["stable"] + 1.0):
            text = f"{open_['candidate']} requests wait for the candidate and {open_['stable']} for stable"
            yield Finding(code="unsettled", text=f"{text}, expected about as many", arm="candidate")


def _windows(plan: GatePlan, totals: Totals) -> Iterator[Finding]:
    if totals.gaps:
        text = f"windows are missing before {_listed(totals.gaps)}"
        yield Finding(code="window_missing", text=text, voids="any")
    if totals.starved and plan.source != "split":
        text = f"hardly anything of what was due was sent to an arm in {_listed(totals.starved)}"
        yield Finding(code="window_empty", text=text, voids="any")


def _identity(plan: GatePlan, totals: Totals) -> Iterator[Finding]:
    if plan.identity == "off":
        return
    only: dict[Arm, str] = {}
    for arm in ARMS:
        answered = {digest: count for digest, count in sorted(totals.arms[arm].digests.items()) if count}
        silent, wanted = answered.pop("", 0), plan.digests.get(arm)
        if totals.arms[arm].succeeded and (silent or not answered):
            text = f"{silent or 'none'} of {arm}'s answers say which bundle they come from"
            if silent:
                text = f"{silent} of {arm}'s answers do not say which bundle they come from"
            yield Finding(code="digest_unknown", text=text, arm=arm)
        if len(answered) > 1:
            text = f"{len(answered)} bundles answered for {arm}: {', '.join(map(_short, answered))}, expected one"
            yield Finding(code="digests_mixed", text=text, arm=arm, voids="any")
        if wanted is not None and (wrong := [digest for digest in answered if digest != wanted]):
            text = f"{_short(wrong[0])} answered for {arm}, expected {_short(wanted)}"
            yield Finding(code="digest_wrong", text=text, arm=arm, voids="any")
        if len(answered) == 1:
            only[arm] = next(iter(answered))
    if len(only) == len(ARMS) and not plan.is_same and only["stable"] == only["candidate"]:
        text = f"both arms are {_short(only['stable'])}, expected two bundles"
        yield Finding(code="digest_same", text=text)


def _ratios(plan: GatePlan, totals: Totals) -> Iterator[Finding]:
    sent = {arm: totals.arms[arm].sent for arm in ARMS}
    total = sum(sent.values())
    if plan.source != "shadow" and total:
        share = sent["candidate"] / total
        wanted = plan.candidate_share if plan.source == "split" else 0.5
        is_far = plan.source == "load" or abs(share - wanted) > SPLIT_OFF * wanted
        if is_far and _log_evidence(sent["candidate"], total, wanted) >= -math.log(plan.limits.ratio_p):
            text = f"the candidate got {share:.4f} of the requests, expected {wanted:g}"
            yield Finding(code="sample_ratio", text=text, voids="any")
    first = {arm: totals.arms[arm].first_sent for arm in ARMS}
    asked = sum(first.values())
    if plan.source == "load" and asked:
        evidence = _log_evidence(first["candidate"], asked, 0.5)
        if evidence >= -math.log(plan.limits.ratio_p):
            text = f"the candidate was asked first {first['candidate']} times of {asked}, expected half of them"
            yield Finding(code="order_ratio", text=text, voids="any")


def _pairs(plan: GatePlan, totals: Totals) -> Iterator[Finding]:
    if plan.source == "split":
        return
    stable, candidate = (totals.arms[arm] for arm in ARMS)
    asked = max(stable.settled, candidate.settled)
    both = stable.succeeded + candidate.succeeded - asked  # at least so many inputs were answered by both
    open_ = abs(stable.settled - candidate.settled) + 10
    if both > 0 and totals.compared < HARDLY * both - open_:
        text = f"{totals.compared} pairs of answers to the same input were compared, expected about {both}"
        yield Finding(code="payloads_differ", text=text, voids="any")


def _generator(limits: Limits, totals: Totals) -> Iterator[Finding]:
    stable = totals.arms["stable"].latency_us
    if totals.slip_us.count and stable.count:
        slip_s = totals.slip_us.quantile(0.99) / 1e6
        allowed_s = max(limits.slip_p99_s, limits.slip_share * stable.quantile(0.95) / 1e6)
        if slip_s > allowed_s:
            text = f"1 request in 100 was sent {slip_s * 1e3:.3g} ms late or more, expected {allowed_s * 1e3:.3g} ms"
            yield Finding(code="generator_slip", text=f"{text} at most", voids="any")
    if totals.cpu_shares and (busy := statistics.median(totals.cpu_shares)) > limits.cpu_share:
        text = f"the generator's busiest worker used {busy:.0%} of a core, expected at most {limits.cpu_share:.0%}"
        yield Finding(code="generator_cpu", text=text, voids="any")
    if totals.dropped > limits.dropped_share * max(totals.offered, 1):
        text = f"{totals.dropped} of {totals.offered} requests were not sent"
        text += f", expected at most {limits.dropped_share:.2%}"
        yield Finding(code="generator_dropped", text=text, voids="any")
    if totals.sockets_share > limits.sockets_share:
        text = f"{totals.sockets_share:.0%} of the sockets were open, expected at most {limits.sockets_share:.0%}"
        yield Finding(code="generator_sockets", text=text, voids="any")
    if totals.clock_offset_s is not None and totals.clock_offset_s > limits.clock_offset_s:
        text = f"the generator's clocks are {totals.clock_offset_s:.3g} s apart, expected {limits.clock_offset_s:g} s"
        yield Finding(code="generator_clock", text=f"{text} at most", voids="any")


def _scrapes(plan: GatePlan, totals: Totals, criteria: tuple[Criterion, ...]) -> Iterator[Finding]:
    for arm in ARMS:
        asked = plan.load is not None and arm in plan.load.arms and plan.load.arms[arm].admin is not None
        scrapes = totals.scrapes[arm]
        if asked or any(one is not None for one in scrapes):
            bad = [one for one in scrapes if one is None or not one.ok]
            if len(bad) > MISSED * len(scrapes):
                said = next((one.problem for one in bad if one is not None and one.problem), "no answer")
                text = f"{len(bad)} of {len(scrapes)} scrapes of {arm} failed: {said}"
                yield Finding(code="scrape_missing", text=text, arm=arm)
        skews = [one.skew_s for one in scrapes if one is not None and one.skew_s is not None]
        if skews and abs(skew := statistics.median(skews)) > plan.limits.skew_s:
            text = f"{arm}'s clock is {skew:+.3g} s from ours, expected {plan.limits.skew_s:g} s at most"
            yield Finding(code="clock_skew", text=text, arm=arm, voids="any")
    known = {one.metric for one in criteria}
    for metric in plan.required:
        if metric not in known:
            yield Finding(code="metric_missing", text=f"the plan requires `{metric}`, and no window has it")


def _contention(limits: Limits, totals: Totals) -> Iterator[Finding]:
    """Somebody else worked on the machine, and one arm had to wait for a processor more than the other.

    That is no burst that evens out: two servers on two cores, of which one is also somebody else's, differ for as long
    as the scheduler leaves them there. It counts where it is as much as half of the difference in speed.
    """
    waits = {arm: _wait_s(totals.scrapes[arm]) for arm in ARMS}
    medians = {
        arm: totals.arms[arm].latency_us.quantile(0.5) / 1e6 for arm in ARMS if totals.arms[arm].latency_us.count
    }
    if waits["stable"] is None or waits["candidate"] is None or len(medians) < len(ARMS):
        return
    extra_s = abs(waits["candidate"] - waits["stable"])
    if extra_s > limits.wait_share * medians["stable"] and extra_s > abs(medians["candidate"] - medians["stable"]) / 2:
        arm: Arm = "candidate" if waits["candidate"] > waits["stable"] else "stable"
        text = f"{arm} waited {extra_s * 1e6:.3g} µs a request more for a processor than the other arm"
        text += f", expected at most {limits.wait_share * medians['stable'] * 1e6:.3g} µs"
        yield Finding(code="cpu_contended", text=text, arm=arm, voids="any")


def _wait_s(scrapes: Sequence[Scrape | None]) -> float | None:
    """Seconds a request for which no processor was free, from the first scrape to the last; None: it is not told."""
    told = [
        (one.cpu_wait_s, one.requests)
        for one in scrapes
        if one is not None and one.cpu_wait_s is not None and one.requests is not None
    ]
    if len(told) < 2 or told[-1][1] <= told[0][1] or told[-1][0] < told[0][0]:
        return None
    return (told[-1][0] - told[0][0]) / (told[-1][1] - told[0][1])


def _log_evidence(hits: int, n: int, share: float) -> float:
    """The log of the mixture's evidence against "each is a hit with probability `share`"."""
    a, b = PRIOR * share, PRIOR * (1.0 - share)
    return (
        math.lgamma(a + hits)
        - math.lgamma(a)
        + math.lgamma(b + n - hits)
        - math.lgamma(b)
        - math.lgamma(a + b + n)
        + math.lgamma(a + b)
        - hits * math.log(share)
        - (n - hits) * math.log1p(-share)
    )


def _short(digest: str) -> str:
    return digest[:19]


def _listed(windows: list[int]) -> str:
    shown = ", ".join(map(str, windows[:3]))
    return f"window {shown}" if len(windows) == 1 else f"windows {shown}{' …' if len(windows) > 3 else ''}"
