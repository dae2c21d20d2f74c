"""Tries the rates of a capacity search, one after the other, and hands on each step as soon as it is judged.

Which rate is next is decided in `slipway_signals.gate.capacity`. The invariant: every try is a run of its own, with a
warm-up, over the same inputs; caps hold as in any run, but for stable's failures: to find where it fails is the point.
"""

from collections.abc import Callable

import msgspec

from slipway_loadtests.conductor import Campaign
from slipway_signals.gate.capacity import Search, Step, judge_step, next_rate
from slipway_signals.gate.load_plan import LoadPlan, Steady

__all__ = ["search_campaign"]


def search_campaign(plan: LoadPlan, search: Search, told: Callable[[Step], None]) -> Campaign:
    """Plans to run, each decided by the windows of those before.

    Args:
        plan: what is asked, and of whom; its rate, shape and length are the search's.
        search: what is promised.
        told: handed each step.
    """
    steps: list[Step] = []
    caps = msgspec.structs.replace(plan.caps, stable_failed=1.0)
    search = msgspec.structs.replace(search, highest=min(search.highest, caps.rate))
    while (rate := next_rate(search, steps)) is not None:
        windows = yield msgspec.structs.replace(
            plan,
            rate=rate,
            shape=Steady(),
            warm_up_s=search.step_s / 5.0,
            seconds=search.step_s * 1.2,
            window_s=search.step_s / 5.0,
            seed=plan.seed + len(steps),
            caps=caps,
        )
        step = judge_step(search, rate, windows)
        steps.append(step)
        told(step)
