"""Any interleaving of joins, deaths, requests, cancels and answers: nothing is lost, doubled or wrongly blamed."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from runtime_dispatch_ledger import MODELS, SPECS, Ledger

KEYS = st.sampled_from([b"", b"short", b"long"])


class DispatchMachine(RuleBasedStateMachine):
    """Hypothesis chooses what happens next, and how much time passes in between."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.only_poison_kills = True

    @initialize(joined=st.lists(st.sampled_from(sorted(SPECS)), max_size=6), only_poison_kills=st.booleans())
    def begin(self, joined: list[str], only_poison_kills: bool) -> None:
        self.only_poison_kills = only_poison_kills
        for pool in joined:
            self.ledger.join(pool)

    @rule(
        home=st.sampled_from(MODELS),
        key=KEYS,
        rows=st.integers(1, 8),
        timeout_ms=st.sampled_from([0, 2, 10, 100, 5000]),
        poison=st.booleans(),
        count=st.integers(1, 12),
    )
    def offer(self, home, key, rows, timeout_ms, poison, count) -> None:  # type: ignore[no-untyped-def]  # by the strategies
        for index in range(count):
            self.ledger.offer(home, key, rows, timeout_ms / 1000, poison=poison and index == 0)

    @rule(pool=st.sampled_from(sorted(SPECS)))
    def join(self, pool: str) -> None:
        self.ledger.join(pool)

    @rule(milliseconds=st.sampled_from([0, 1, 5, 20, 200]))
    def plan(self, milliseconds: int) -> None:
        self.ledger.now += milliseconds / 1000
        self.ledger.plan()

    @precondition(lambda self: self.ledger.flights)
    @rule(pick=st.integers(0, 100))
    def land(self, pick: int) -> None:
        self.ledger.now += 0.001
        self.ledger.land(sorted(self.ledger.flights)[pick % len(self.ledger.flights)])
        self.ledger.plan()

    @precondition(lambda self: self.ledger.members)
    @rule(pick=st.integers(0, 100))
    def retire(self, pick: int) -> None:
        self.ledger.retire(sorted(self.ledger.members)[pick % len(self.ledger.members)])

    @precondition(lambda self: self.ledger.members and not self.only_poison_kills)
    @rule(pick=st.integers(0, 100))
    def lose(self, pick: int) -> None:
        self.ledger.lose(sorted(self.ledger.members)[pick % len(self.ledger.members)])

    @precondition(lambda self: self.ledger.tickets)
    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: int) -> None:
        self.ledger.cancel(pick % len(self.ledger.tickets))

    @rule(seconds=st.sampled_from([0.5, 2.0, 60.0]))
    def hang(self, seconds: float) -> None:
        """Nothing lands for a while; what is overdue then is killed."""
        self.ledger.now += seconds
        self.ledger.plan()
        for replica in self.ledger.core.overdue(self.ledger.now):
            if not self.only_poison_kills:
                self.ledger.lose(replica)

    @rule(pool=st.sampled_from(sorted(SPECS)), comes_back=st.booleans())
    def drop(self, pool: str, comes_back: bool) -> None:
        self.ledger.drop(pool)
        if comes_back:
            self.ledger.core.add_pool(SPECS[pool])

    @invariant()
    def the_books_agree(self) -> None:
        self.ledger.check()

    @invariant()
    def no_innocent_is_blamed(self) -> None:
        if self.only_poison_kills:
            ended = {number for number, state in self.ledger.states.items() if state == "quarantined"}
            assert ended <= self.ledger.poison

    def teardown(self) -> None:
        self.ledger.finish()
        self.no_innocent_is_blamed()


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
