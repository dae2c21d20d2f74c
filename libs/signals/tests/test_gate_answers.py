"""Answers taken apart and counted: what the load process and the splitter write into windows."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_signals.gate.answers import FIELDS, VALUES, Leaves, differing, is_whole, read_answer
from slipway_signals.gate.records import Counts
from slipway_signals.gate.tally import UNREAD, ArmTally, PairTally

V2 = {
    "model_name": "churn",
    "outputs": [
        {"name": "probability", "datatype": "FP64", "shape": [2], "data": [0.25, 0.5]},
        {"name": "band", "datatype": "BYTES", "shape": [2], "data": ["low", "high"]},
    ],
}


def leaves_of(answer: object) -> Leaves:
    leaves = read_answer(msgspec.json.encode(answer))
    assert leaves is not None
    return leaves


def test_fields_are_named_by_their_way() -> None:
    answer = {
        "risk": {"p": 0.5, "is_high": True},
        "boxes": [{"score": 1}, {"score": 2.5}],
        "note": None,
        "rows": [[1, 2]],
    }

    leaves = leaves_of(answer)

    assert leaves.numbers == {"risk.p": [0.5], "boxes[].score": [1.0, 2.5], "rows[]": [1.0, 2.0]}
    assert leaves.labels == {"risk.is_high": ["true"]}
    assert leaves.nulls == {"note"}
    assert leaves_of(3).numbers == {"": [3.0]}


def test_outputs_of_the_inference_protocol_are_called_by_their_names() -> None:
    leaves = leaves_of(V2)

    assert leaves.numbers == {"probability[]": [0.25, 0.5]}
    assert leaves.labels == {"band[]": ["low", "high"]}


@pytest.mark.parametrize("body", [b"", b"{", b'{"p":NaN}', b'{"p":1e999}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    assert read_answer(body) is None


def test_an_answer_of_any_size_costs_a_bounded_part() -> None:
    assert len(leaves_of({str(n): n for n in range(10_000)}).numbers) == FIELDS
    assert len(leaves_of(list(range(100_000))).numbers["[]"]) == VALUES


def test_an_answer_is_whole_when_each_expected_number_is_there() -> None:
    expected = frozenset({"p"})

    assert is_whole(leaves_of({"p": 1, "q": None}), expected)
    assert not is_whole(leaves_of({"q": 1}), expected)
    assert not is_whole(leaves_of({"p": [1, None]}), frozenset({"p[]"}))


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        ({"p": 0.5, "band": "low"}, []),
        ({"p": 0.5009, "band": "low"}, []),
        ({"p": 0.502, "band": "low"}, ["p"]),
        ({"p": 0.5, "band": "high"}, ["band"]),
        ({"p": None, "band": "low"}, ["p"]),
        ({"band": "low"}, ["p"]),
        ({"p": 0.5, "band": "low", "more": 1}, ["more"]),
        ({"p": [0.5, 0.5], "band": "low"}, ["p", "p[]"]),
    ],
)
def test_a_difference_is_named_by_its_field(other: object, fields: list[str]) -> None:
    assert differing(leaves_of({"p": 0.5, "band": "low"}), leaves_of(other), {"p": 0.001}) == fields


ANSWERS = st.recursive(st.none() | st.booleans() | st.floats(-1e9, 1e9) | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
), max_leaves=8)  # fmt: skip


@given(one=ANSWERS, other=ANSWERS)
def test_an_answer_agrees_with_itself_and_differing_has_no_direction(one: object, other: object) -> None:
    left, right = leaves_of(one), leaves_of(other)

    assert differing(left, left, {}) == []
    assert differing(left, right, {}) == differing(right, left, {})


def test_what_was_counted_is_in_exactly_one_window() -> None:
    tally = ArmTally()
    for latency_us in (1_000, 3_000):
        tally.sent(is_first=latency_us == 1_000)
        tally.succeeded(latency_us, leaves_of({"p": 0.5, "band": "low"}), "sha256:a", is_correct=latency_us == 1_000)
    tally.sent()
    tally.succeeded(2_000, None, "sha256:a")
    tally.sent()
    tally.failed("http_500", "sha256:b")
    tally.sent()
    tally.succeeded(2_000, UNREAD)

    counts = tally.take()

    assert (counts.sent, counts.succeeded, counts.failed, counts.first_sent) == (5, 4, {"http_500": 1}, 1)
    assert (counts.malformed, counts.labelled, counts.correct) == (1, 2, 1)
    assert counts.digests == {"sha256:a": 3, "sha256:b": 1, "": 1}
    assert (counts.latency_us.count, counts.outputs["p"].count) == (4, 2)
    assert counts.labels == {"band": {"low": 2}}
    assert tally.take() == Counts()


def test_words_beyond_fifty_are_other() -> None:
    tally = ArmTally()

    tally.label("band", *(str(number) for number in range(60)), "0")

    counted = tally.take().labels["band"]
    assert (len(counted), counted["other"], counted["0"]) == (51, 10, 2)


def test_pairs_are_counted_by_what_differs() -> None:
    pairs = PairTally({"p": 0.1})

    agrees = pairs.compare(leaves_of({"p": 0.5}), leaves_of({"p": 0.55}))
    differs = pairs.compare(leaves_of({"p": 0.5}), leaves_of({"p": 0.7}), also=("status",))

    assert (agrees, differs) == (True, False)
    assert (pairs.take().disagreed, pairs.take().compared) == ({"p": 1, "status": 1}, 0)
