"""Quantities in the one spelling that the API server would write back (argoproj/argo-rollouts#3281)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_platform.quantities import QuantityError, bytes_of, cpu, memory, millicores_of


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("1000m", "1"), ("0.5", "500m"), (0.5, "500m"), ("2", "2"), (1, "1"), ("1500m", "1500m"), ("0.001", "1m")],
)
def test_processors_have_one_spelling(written: str | float, canonical: str) -> None:
    assert cpu(written) == canonical


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000M", "1G"),
        ("1000Mi", "1000Mi"),
        ("0.5Ki", "512"),
        ("1048576Ki", "1Gi"),
        (1024, "1024"),
        ("1073741824", "1073741824"),
        ("1000000000", "1G"),
    ],
)
def test_memory_has_one_spelling(written: str | int, canonical: str) -> None:
    assert memory(written) == canonical


@given(st.integers(1, 10**6))
def test_the_canonical_spelling_is_its_own(milli: int) -> None:
    text = cpu(f"{milli}m")

    assert cpu(text) == text
    assert millicores_of(text) == milli


@given(st.integers(1, 2**50), st.sampled_from(["", "Ki", "Mi", "k", "M"]))
def test_no_byte_is_lost(number: int, suffix: str) -> None:
    text = memory(f"{number}{suffix}")

    assert bytes_of(text) == bytes_of(f"{number}{suffix}")
    assert memory(text) == text


@pytest.mark.parametrize("bad", ["", "0", "0.0005", "1Gi", "-1", "1 ", "many"])
def test_no_amount_of_processors_is_refused(bad: str) -> None:
    with pytest.raises(QuantityError, match="processors"):
        cpu(bad)


@pytest.mark.parametrize("bad", ["", "0", "0.3", "1m", "1gi", "1GiB", "-1Gi"])
def test_no_amount_of_memory_is_refused(bad: str) -> None:
    with pytest.raises(QuantityError, match="memory"):
        memory(bad)
