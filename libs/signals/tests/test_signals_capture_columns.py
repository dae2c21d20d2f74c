"""Rows that came as columns: which of them are worth making, told from their numbers alone, and none of them lost."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from capture_fakes import NOW, Capturing, Customer, Risk
from hypothesis import given
from hypothesis import strategies as st

from slipway_signals.capture import ModelCapture
from slipway_signals.capture.sampling import is_sampled, row_id, sampled_rows, threshold_of


@given(
    name=st.text(max_size=60),
    first=st.integers(0, 1_200),
    count=st.integers(0, 1_200),
    rate=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
)
def test_a_row_is_chosen_by_its_number_exactly_as_by_its_name(name: str, first: int, count: int, rate: float) -> None:
    """Labels name a row, and know by its name alone whether it was left out."""
    threshold, numbers = threshold_of(rate), range(first, first + count)

    chosen = sampled_rows(name, numbers, threshold)

    assert chosen == [number for number in numbers if is_sampled(row_id(name, number), threshold)]


def test_what_is_left_out_is_counted_and_what_is_chosen_is_stored(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture", rate=0.1)
    capturing.log.start()

    chosen = capturing.log.choose("churn", "r", range(2_000), [Risk()] * 2_000, 200)
    for number in chosen:
        capturing.offer(row_id("r", number))

    rows = capturing.close().rows()
    assert {row["request_id"] for row in rows} == {row_id("r", number) for number in chosen}
    assert capturing.counts() == {"written": len(chosen), "sampled_out": 2_000 - len(chosen)}
    assert 130 < len(chosen) < 270


def test_where_there_is_no_room_nothing_is_chosen_and_the_loss_is_counted(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture", ring_records=10)

    for _ in range(3):
        for number in capturing.log.choose("churn", "r", range(8), [Risk()] * 8, 200):
            capturing.offer(row_id("r", number))

    assert capturing.counts() == {"dropped": 14}
    assert len(capturing.close().rows()) == 10


def test_unsure_answers_and_failures_are_chosen_whatever_the_rate(tmp_path: Path) -> None:
    judged = {"churn": ModelCapture(score="probability", unsure=0.1)}
    capturing = Capturing(tmp_path / "capture", rate=0.0, models=judged)
    answers = [Risk(0.1), Risk(0.45), Risk(0.9), Risk(0.55)]

    assert capturing.log.choose("churn", "r", range(4, 8), answers, 200) == [5, 7]
    assert capturing.log.choose("churn", "r", range(4), (), 503) == [0, 1, 2, 3]
    assert capturing.log.choose("churn", "r", range(4), (), 422) == []
    assert capturing.log.choose("another", "r", range(4), (), 503) == []


@dataclass
class Odd:
    """An answer without a score."""


def test_an_answer_that_cannot_be_judged_costs_records_and_never_raises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judged = {"churn": ModelCapture(score="probability", unsure=0.1)}
    capturing = Capturing(tmp_path / "capture", rate=0.0, models=judged)

    for _ in range(3):
        assert capturing.log.choose("churn", "r", range(2), [Odd(), Odd()], 200) == []
    capturing.log.offer("churn", "r", None, Customer(), Odd(), 200, 0.1, None, NOW)

    assert capturing.counts()["dropped"] == 7
    assert [record.message for record in caplog.records] == ["capture_offer_failed"]
