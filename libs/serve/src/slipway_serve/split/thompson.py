"""Shares that follow what the arms achieve: Thompson sampling with guardrails. Pure: `now` and chance are arguments.

An arm's share moves towards the probability that it is the best one (Thompson, Biometrika 1933), by its requests that
were good or not: a Beta posterior each, with what is old counting less (discounted sampling: Raj and Kalyani, Taming
Non-stationary Bandits, 2017). The invariants: each arm keeps `least` and none but stable gets more than `most`; a
share moves by at most `most_step` at once; an arm that fails beyond doubt gets nothing, and then nothing changes any
more until somebody looks. Beyond doubt: a cumulative sum of log likelihood ratios above `ln(FALSE_FREEZE)`, so that an
arm that fails no more than it may is frozen once in `FALSE_FREEZE` requests or less (e-detectors: Shin, Ramdas and
Rinaldo, New England Journal of Statistics in Data Science 2023; CUSUM: Page, Biometrika 1954).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Final

import numpy as np
from msgspec import Meta, Struct

from slipway_serve.split.assignment import STABLE

__all__ = ["FALSE_FREEZE", "Standing", "Thompson", "ThompsonConfig"]

FALSE_FREEZE: Final = 1_000_000
"""Mean number of requests to an arm until it is frozen although it fails no more than it may, at least."""
DRAWS: Final = 2_000
"""Of the posteriors; a probability is known to about 0.01."""


class ThompsonConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[thompson]`: shares follow what the arms achieve. Absent: weights stay as they are."""

    good_ms: Annotated[float, Meta(gt=0)]
    """A request is good when it is answered without a failure within so many milliseconds."""
    every_s: Annotated[float, Meta(ge=0.1, le=3_600)] = 10.0
    """How often shares change."""
    least: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    """Share that each arm keeps."""
    most: Annotated[float, Meta(gt=0, le=1)] = 0.95
    """Share that an arm other than stable gets at most."""
    most_step: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """Share that an arm gains or loses at once, at most."""
    half_life_s: Annotated[float, Meta(gt=0)] = 3_600.0
    """What was seen so long ago counts half: the world changes."""
    failed_most: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """Guardrail: an arm that fails more than this share, beyond doubt, freezes the split."""
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 1


class Standing(Struct, frozen=True, kw_only=True):
    """What is known of one arm now."""

    good: float
    """Requests, those of long ago in part."""
    bad: float
    mean: float
    """Of the posterior: the probability that a request is good."""
    share: float
    alarm: float
    """How much speaks for a broken guardrail: 1 freezes."""


class Thompson:
    """The shares of a split.

    Args:
        weights: arm → weight; those with 0 take no part.
        config: of `[thompson]`.
        now: seconds on any clock that does not go back.
    """

    def __init__(self, weights: Mapping[str, float], config: ThompsonConfig, now: float) -> None:
        total = sum(weights.values())
        self._config = config
        self._idle = [arm for arm, weight in weights.items() if weight <= 0]
        self.shares = {arm: weight / total for arm, weight in weights.items() if weight > 0}
        self._seen = {arm: [0.0, 0.0] for arm in self.shares}
        self._guards = {arm: _Guard(config.failed_most) for arm in self.shares}
        self._generator = np.random.default_rng(config.seed)
        self._at = now
        self.frozen: str | None = None
        """Why nothing changes any more; None: it goes on."""

    def observe(self, arm: str, *, is_good: bool, is_failed: bool) -> None:
        """A request has ended. HOT."""
        seen = self._seen.get(arm)
        if seen is None:
            return
        seen[not is_good] += 1.0
        guard = self._guards[arm]
        guard.observe(is_failed=is_failed)
        if guard.level >= 1.0 and self.frozen is None:
            self._freeze(arm)

    def decide(self, now: float) -> dict[str, float]:
        """The shares from now on, all arms, adding up to 1; called about every `every_s`."""
        if self.frozen is None:
            self._forget(now)
            target = self._target(self._best())
            widest = max(abs(target[arm] - share) for arm, share in self.shares.items())
            part = min(1.0, self._config.most_step / widest) if widest > 0 else 0.0
            self.shares = {arm: share + part * (target[arm] - share) for arm, share in self.shares.items()}
        return {**self.shares, **dict.fromkeys(self._idle, 0.0)}

    def standings(self) -> dict[str, Standing]:
        """Arm → what is known of it."""
        found = {}
        for arm, (good, bad) in self._seen.items():
            mean = (good + 1.0) / (good + bad + 2.0)
            alarm = self._guards[arm].level
            found[arm] = Standing(good=good, bad=bad, mean=mean, share=self.shares[arm], alarm=alarm)
        return found

    def _best(self) -> dict[str, float]:
        """Arm → probability that no other one is better."""
        seen = np.array(list(self._seen.values()))
        drawn = self._generator.beta(seen[:, 0] + 1.0, seen[:, 1] + 1.0, size=(DRAWS, len(seen)))
        counts = np.bincount(drawn.argmax(axis=1), minlength=len(seen))
        return dict(zip(self._seen, (counts / DRAWS).tolist(), strict=True))

    def _target(self, best: Mapping[str, float]) -> dict[str, float]:
        """Probabilities squeezed between `least` and `most`; what is cut off goes to stable."""
        least = self._config.least
        room = 1.0 - len(best) * least
        target = {arm: least + room * chance for arm, chance in best.items()}
        if STABLE in target:
            for arm in target.keys() - {STABLE}:
                surplus = max(0.0, target[arm] - self._config.most)
                target[arm] -= surplus
                target[STABLE] += surplus
        return target

    def _forget(self, now: float) -> None:
        kept = 0.5 ** (max(0.0, now - self._at) / self._config.half_life_s)
        self._at = now
        for seen in self._seen.values():
            seen[0] *= kept
            seen[1] *= kept

    def _freeze(self, arm: str) -> None:
        self.frozen = f"arm {arm!r} fails more than {self._config.failed_most:g} of its requests"
        if arm != STABLE and STABLE in self.shares:
            self.shares[STABLE] += self.shares[arm]
            self.shares[arm] = 0.0


class _Guard:
    """Whether failures are more than the share that is allowed: three alternatives, each a cumulative sum."""

    def __init__(self, allowed: float) -> None:
        worse = [min(1.5 * allowed, (1.0 + allowed) / 2), min(3.0 * allowed, (1.0 + allowed) / 2), (1.0 + allowed) / 2]
        self._failed = [math.log(one / allowed) for one in worse]
        self._fine = [math.log((1.0 - one) / (1.0 - allowed)) for one in worse]
        self._sums = [0.0] * len(worse)

    def observe(self, *, is_failed: bool) -> None:
        steps = self._failed if is_failed else self._fine
        self._sums = [max(0.0, total) + step for total, step in zip(self._sums, steps, strict=True)]

    @property
    def level(self) -> float:
        """1 where the mean of the three likelihood ratios has reached `FALSE_FREEZE`, on a logarithmic scale."""
        highest = max(self._sums)
        mean = highest + math.log(sum(math.exp(one - highest) for one in self._sums) / len(self._sums))
        return max(0.0, mean) / math.log(FALSE_FREEZE)
