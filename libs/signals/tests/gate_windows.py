"""Windows as a load process would count them, out of a fixed seed: what the tests of the gate judge."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.load_plan import LoadPlan, Target
from slipway_signals.gate.margins import Promises
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.records import Arm, Counts, Generator, Pairs, Scrape, Window

DIGESTS: Mapping[Arm, str] = {"stable": f"sha256:{'a' * 64}", "candidate": f"sha256:{'b' * 64}"}

PROMISES = Promises(
    service="churn", digest="sha256:0", error_budget=0.01, latency_threshold_s=0.05, latency_budget=0.02
)


def load_plan(seconds: float = 60.0, rate: float = 200.0, warm_up_s: float = 3.0, **more: object) -> LoadPlan:
    """Two arms of which nobody is asked."""
    arms = {"stable": Target(url="http://127.0.0.1:1"), "candidate": Target(url="http://127.0.0.1:2")}
    return LoadPlan(arms=arms, rate=rate, seconds=seconds, warm_up_s=warm_up_s, **more)  # type: ignore[arg-type]  # checked when it runs


def gate_plan(**more: object) -> GatePlan:
    """The default plan, with something else in places."""
    return GatePlan(**({"load": load_plan()} | more))  # type: ignore[arg-type]  # checked when it runs


class Arms:
    """Two simulated arms; an attribute is a share, a factor or a shift of the candidate."""

    def __init__(
        self,
        seed: int,
        *,
        rate: int = 200,
        slower: float = 1.0,
        failing: float = 0.0,
        drift: float = 0.0,
        malformed: float = 0.0,
        stable_failing: float = 0.0,
        cpu: float = 1.0,
        waiting_s: float = 2e-5,
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.rate = rate
        self.slower = slower
        self.failing: Mapping[Arm, float] = {"stable": stable_failing, "candidate": failing}
        self.drift = drift
        self.malformed = malformed
        self.cpu: Mapping[Arm, float] = {"stable": 1e-4, "candidate": 1e-4 * cpu}
        self.waiting_s: Mapping[Arm, float] = {"stable": 2e-5, "candidate": waiting_s}
        self.spent_s: dict[Arm, float] = {"stable": 0.0, "candidate": 0.0}

    def windows(self, count: int, *, warm_up: int = 3, first: int = 0) -> list[Window]:
        """Windows of one second, all healthy but for what the candidate does."""
        return [self.window(index, is_warm_up=index < warm_up) for index in range(first, first + count)]

    def window(self, index: int, *, is_warm_up: bool = False) -> Window:
        """One of them."""
        firsts = int(self.random.binomial(self.rate, 0.5))
        stable = self._counts("stable", self.rate - firsts)
        candidate = self._counts("candidate", firsts)
        slip = Histogram.of(self.random.integers(50, 400, self.rate))
        return Window(
            index=index,
            begin_s=float(index),
            end_s=float(index + 1),
            is_warm_up=is_warm_up,
            arms={"stable": stable, "candidate": candidate},
            pairs=Pairs(compared=min(stable.succeeded, candidate.succeeded), disagreed={}),
            generator=Generator(
                offered=self.rate, slip_us=slip, cpu_share=0.3, sockets=20, sockets_limit=1000, clock_offset_s=0.0
            ),
            scrapes={
                "stable": self._scrape("stable", index),
                "candidate": self._scrape("candidate", index),
            },
        )

    def _counts(self, arm: Arm, first: int) -> Counts:
        is_candidate = arm == "candidate"
        failed = int(self.random.binomial(self.rate, self.failing[arm]))
        answered = self.rate - failed
        latencies = np.exp(self.random.normal(np.log(4_000.0), 0.5, answered)) * (self.slower if is_candidate else 1.0)
        outputs = self.random.beta(2.0, 5.0, answered) + (self.drift if is_candidate else 0.0)
        return Counts(
            sent=self.rate,
            succeeded=answered,
            failed={"http_500": failed} if failed else {},
            latency_us=Histogram.of(latencies.astype(np.int64)),
            first_sent=first,
            digests={DIGESTS[arm]: answered},
            malformed=int(self.random.binomial(answered, self.malformed)) if is_candidate else 0,
            outputs={"score": Sketch.of(outputs)},
        )

    def _scrape(self, arm: Arm, index: int) -> Scrape:
        self.spent_s[arm] += self.rate * self.cpu[arm] * float(self.random.normal(1.0, 0.05))
        requests = float(self.rate * (index + 1))
        waited_s = requests * self.waiting_s[arm]
        return Scrape(
            ok=True, cpu_s=self.spent_s[arm], cpu_wait_s=waited_s, requests=requests, in_flight=2.0, skew_s=0.1
        )


def changed(windows: Sequence[Window], arm: Arm, **more: object) -> list[Window]:
    """The windows with other counts of one arm."""
    return [replace(one, arms={**one.arms, arm: replace(one.arms[arm], **more)}) for one in windows]
