"""Deadlines of steps: learned from what follows them, or configured as shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.steps import FEW, FORGET_S, LEAST_SHARE, REPEATS, StepBook

MAIN = object()


def serve(book: StepBook, start: float, *steps: tuple[str, float, float], end: float, branch: object = MAIN) -> None:
    """One answered request: steps as (name, began, answered) after its start, all in one branch."""
    log = book.open(start, start + 10.0)
    for name, began, answered in steps:
        log.begin(name, branch, start + began).answered = start + answered
    book.learn(log, start + end)


def test_a_book_that_has_learned_nothing_gives_the_deadline_of_the_request() -> None:
    book = StepBook()

    assert book.deadline_for("detect", 5.0, 7.0) == 7.0

    for index in range(FEW - 1):
        serve(book, index * 1.0, ("detect", 0.0, 0.1), end=0.5)

    assert book.deadline_for("detect", 5.0, 7.0) == 7.0


def test_a_step_must_leave_time_for_what_follows_it() -> None:
    book = StepBook()
    for index in range(20):
        serve(book, float(index), ("detect", 0.0, 0.1), ("recognise", 0.2, 0.4), end=0.5)

    now, deadline = 20.0, 22.0

    assert book.deadline_for("detect", now, deadline) == pytest.approx(deadline - 0.4)
    assert book.deadline_for("recognise", now, deadline) == pytest.approx(deadline - 0.1)


def test_it_is_the_95th_percentile_of_what_follows_and_not_its_mean() -> None:
    book = StepBook()
    for index in range(60):
        serve(book, index * 0.1, ("detect", 0.0, 0.1), end=0.1 + (0.8 if index % 10 == 0 else 0.2))

    assert book.deadline_for("detect", 6.0, 12.0) == pytest.approx(12.0 - 0.8)


def test_side_by_side_branches_cost_the_longest_and_not_their_sum() -> None:
    """detect, then orient (0.1 s) beside recognise (0.4 s), then 0.1 s of the endpoint's own work."""
    book = StepBook()
    orienting, recognising = object(), object()
    for index in range(20):
        start = float(index)
        log = book.open(start, start + 10.0)
        log.begin("detect", MAIN, start).answered = start + 0.2
        orient = log.begin("orient", orienting, start + 0.2)
        recognise = log.begin("recognise", recognising, start + 0.2)
        orient.answered, recognise.answered = start + 0.3, start + 0.6
        book.learn(log, start + 0.7)

    now, deadline = 20.0, 22.0

    assert book.deadline_for("detect", now, deadline) == pytest.approx(deadline - 0.5)  # not 0.6
    assert book.deadline_for("recognise", now, deadline) == pytest.approx(deadline - 0.1)
    assert book.deadline_for("orient", now, deadline) == pytest.approx(deadline - 0.1)  # as long as its mate


def test_a_branch_of_two_steps_beside_a_longer_one_keeps_the_time_of_its_own_second_step() -> None:
    book = StepBook()
    first, second = object(), object()
    for index in range(20):
        start = float(index)
        log = book.open(start, start + 10.0)
        long = log.begin("long", second, start)
        log.begin("crop", first, start).answered = start + 0.1
        log.begin("read", first, start + 0.1).answered = start + 0.3
        long.answered = start + 0.8
        book.learn(log, start + 0.9)

    assert book.deadline_for("crop", 20.0, 22.0) == pytest.approx(22.0 - 0.3)  # read takes 0.2, the rest 0.1


def test_a_model_that_is_awaited_twice_has_two_deadlines() -> None:
    book = StepBook()
    for index in range(20):
        serve(book, float(index), ("read", 0.0, 0.1), ("read", 0.2, 0.5), end=0.6)

    log = book.open(20.0, 22.0)

    assert log.begin("read", MAIN, 20.0).deadline == pytest.approx(22.0 - 0.5)
    assert log.begin("read", MAIN, 20.1).deadline == pytest.approx(22.0 - 0.1)


def test_a_loop_over_one_model_is_not_held_back_by_its_own_length() -> None:
    book = StepBook()
    for index in range(20):
        serve(book, index * 10.0, *(("token", i * 0.1, i * 0.1 + 0.1) for i in range(50)), end=5.0)

    log = book.open(200.0, 210.0)
    steps = [log.begin("token", MAIN, 200.0 + i * 0.1) for i in range(50)]

    assert {step.deadline for step in steps[REPEATS:]} == {210.0}


def test_a_share_is_of_the_whole_length_and_replaces_what_was_learned() -> None:
    book = StepBook({"detect": 0.4})
    for index in range(20):
        serve(book, float(index), ("detect", 0.0, 0.1), end=9.0)

    log = book.open(100.0, 102.0)

    assert log.begin("detect", MAIN, 100.5).deadline == pytest.approx(100.5 + 0.4 * 2.0)
    assert log.begin("detect", MAIN, 101.9).deadline == 102.0


def test_a_step_that_failed_and_a_request_that_was_not_told_of_teach_nothing() -> None:
    book = StepBook()
    for index in range(20):
        log = book.open(float(index), index + 10.0)
        log.begin("detect", MAIN, float(index))
        book.learn(log, index + 9.0)

    assert book.follows(20.0) == ()


def test_a_book_of_bad_times_still_leaves_every_step_a_share_and_forgets() -> None:
    book = StepBook()
    for index in range(20):
        serve(book, index * 0.1, ("detect", 0.0, 0.1), end=9.9)

    assert book.deadline_for("detect", 12.0, 14.0) == pytest.approx(12.0 + LEAST_SHARE * 2.0)
    assert book.deadline_for("detect", 12.0 + FORGET_S, 14.0 + FORGET_S) == 14.0 + FORGET_S


@given(
    follows=st.lists(st.floats(0.0, 100.0), max_size=90),
    left_s=st.floats(-1.0, 60.0),
    share=st.none() | st.floats(0.01, 1.0),
)
def test_a_deadline_is_never_later_than_the_request_s_nor_before_now(
    follows: list[float], left_s: float, share: float | None
) -> None:
    book = StepBook({} if share is None else {"a": share})
    for index, seconds in enumerate(follows):
        serve(book, index * 0.01, ("a", 0.0, 0.0), end=seconds)
    now = 101.0

    found = book.deadline_for("a", now, now + left_s, length_s=max(0.0, left_s))

    assert found <= now + left_s
    assert found >= min(now, now + left_s)
