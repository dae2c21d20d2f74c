"""Golden examples: reading them, and what counts as the same answer."""

import pytest

from slipway_bundle.errors import GoldenError
from slipway_bundle.golden import Mismatch, Tolerance, compare, decode_golden

EXACT = Tolerance()


def test_examples_are_read_in_order_and_blank_lines_are_passed_over() -> None:
    data = b'{"model":"a","input":{"x":1},"output":{"y":2}}\n\n{"model":"b","input":{},"output":{}}\n'

    examples = decode_golden(data, where="golden.jsonl")

    assert [example.model for example in examples] == ["a", "b"]
    assert bytes(examples[0].input) == b'{"x":1}'


@pytest.mark.parametrize(
    "line", [b"no", b'{"model":"a"}', b'{"model":"a","input":{},"output":{},"tolerence":{}}', b"\xff",
             b'{"model":"a","input":{},"output":{},"tolerance":{"absolute":-1}}']
)  # fmt: skip
def test_a_line_that_is_no_example_is_named(line: bytes) -> None:
    good = b'{"model":"a","input":{},"output":{}}\n'

    with pytest.raises(GoldenError, match="line 2 of") as caught:
        decode_golden(good + line, where="golden.jsonl")

    assert caught.value.fields["line"] == 2


@pytest.mark.parametrize(
    ("got", "expected", "path"),
    [
        ({"a": 1}, {"a": 2}, "$.a"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "$.a.b[1]"),
        ({"a": [1]}, {"a": [1, 2]}, "$.a"),
        ({}, {"a": 1}, "$.a"),
        ({"a": 1}, {}, "$.a"),
        ({"a": True}, {"a": 1}, "$.a"),
        ({"a": None}, {"a": 0}, "$.a"),
        ({"a": "x"}, {"a": "y"}, "$.a"),
        ([1], {"a": 1}, "$"),
        ({"a": float("nan")}, {"a": 1.0}, "$.a"),
    ],
)
def test_the_first_difference_is_named_by_its_path(got: object, expected: object, path: str) -> None:
    difference = compare(got, expected, Tolerance(absolute=0.5))

    assert difference is not None
    assert difference[0] == path


@pytest.mark.parametrize(
    ("got", "tolerance", "is_same"),
    [
        (1.0, EXACT, True),
        (1, EXACT, True),
        (1.0 + 1e-12, EXACT, False),
        (1.25, Tolerance(absolute=0.25), True),
        (1.5, Tolerance(absolute=0.25), False),
        (0.75, Tolerance(relative=0.25), True),
        (0.5, Tolerance(relative=0.25), False),
        (1.5, Tolerance(absolute=0.25, relative=0.25), True),
    ],
)
def test_a_number_may_differ_by_the_tolerance_and_no_more(got: float, tolerance: Tolerance, *, is_same: bool) -> None:
    assert (compare({"y": got}, {"y": 1.0}, tolerance) is None) == is_same


def test_a_mismatch_reads_as_a_sentence() -> None:
    mismatch = Mismatch(model="churn", line=3, path="$.p", expected="0.5", got="0.6")

    assert str(mismatch) == "golden example 3 of model 'churn': `$.p` got 0.6, expected 0.5"
