"""Poison isolation: exactly the bad tickets fail, at a bounded cost."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.poison import Part, isolate
from slipway_runtime.request import Ticket


class Model:
    """Raises when a payload is b"bad"; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, payloads: Sequence[bytes], rows: int) -> object:
        self.calls += 1
        assert rows == len(payloads)
        if b"bad" in payloads:
            raise ValueError("bad row")
        return list(payloads)


def batch(bad: set[int], size: int) -> list[Ticket]:
    return [Ticket(b"bad" if at in bad else b"good", 1, 1.0, 0.0) for at in range(size)]


def fate(parts: list[Part]) -> tuple[set[int], set[int]]:
    """Ids of the tickets that were answered, and that failed; no ticket may be in both or twice."""
    answered = [id(ticket) for part in parts if part.error is None for ticket in part.tickets]
    failed = [id(ticket) for part in parts if part.error is not None for ticket in part.tickets]
    assert len(set(answered) | set(failed)) == len(answered) + len(failed)
    return set(answered), set(failed)


@given(st.integers(1, 32), st.sets(st.integers(0, 31), min_size=1))
def test_exactly_the_bad_tickets_fail(size: int, bad: set[int]) -> None:
    tickets = batch(bad, size)

    parts = isolate(Model(), tickets, ValueError("whole batch"), calls=64, is_wanted=lambda ticket: True)

    answered, failed = fate(parts)
    if size > 1:
        assert failed == {id(ticket) for ticket in tickets if ticket.payload == b"bad"}
    assert len(answered) + len(failed) == size


@pytest.mark.parametrize("position", [0, 13, 31])
def test_one_bad_of_32_costs_ten_calls_and_one_failure(position: int) -> None:
    model, tickets = Model(), batch({position}, 32)

    parts = isolate(model, tickets, ValueError("whole batch"), calls=64, is_wanted=lambda ticket: True)

    answered, failed = fate(parts)
    assert failed == {id(tickets[position])}
    assert len(answered) == 31
    assert model.calls == 10


@given(st.integers(2, 64), st.integers(1, 20))
def test_the_cost_is_bounded_and_nobody_is_forgotten(size: int, calls: int) -> None:
    model, tickets = Model(), batch(set(range(size)), size)

    parts = isolate(model, tickets, ValueError("whole batch"), calls=calls, is_wanted=lambda ticket: True)

    assert model.calls <= calls
    answered, failed = fate(parts)
    assert not answered
    assert len(failed) == size


def test_a_batch_that_is_only_too_large_loses_nobody() -> None:
    def small(payloads: Sequence[bytes], rows: int) -> object:
        if rows > 8:
            raise MemoryError
        return list(payloads)

    tickets = batch(set(), 32)

    parts = isolate(small, tickets, MemoryError(), calls=64, is_wanted=lambda ticket: True)

    answered, failed = fate(parts)
    assert not failed
    assert len(answered) == 32


def test_what_is_not_wanted_any_more_is_never_computed_again() -> None:
    model, tickets = Model(), batch({0}, 4)
    gone = tickets[3]

    parts = isolate(model, tickets, ValueError("whole batch"), calls=64, is_wanted=lambda ticket: ticket is not gone)

    answered, failed = fate(parts)
    assert id(gone) not in answered | failed
    assert failed == {id(tickets[0])}
