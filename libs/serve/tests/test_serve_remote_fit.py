"""Whether a far model is the one that was declared, and how its address is written: judged before anything is sent."""

import contextlib
from typing import Literal

import pytest

from slipway_bundle import ConfigError, TensorSpec
from slipway_serve.far_end import Address, RemoteMismatch, parse_remote
from slipway_serve.far_model import compare_tensors, specs_of
from slipway_serve.protocol import TensorMetadata

ADDRESS = Address("grpc://far/m", "grpc", "far:8001", "m")
SHAPES: dict[str, tuple[Literal["input", "output"], tuple[int, ...], tuple[int, ...], bool]] = {
    "the same": ("input", (3,), (-1, 3), True),
    "the same, answered": ("output", (3,), (-1, 3), True),
    "a column for a scalar": ("input", (), (-1, 1), True),
    "a column for a scalar, answered": ("output", (), (-1, 1), True),
    "free there": ("input", (3,), (-1, -1), True),
    "free there, answered": ("output", (3,), (-1, -1), True),
    "free here only": ("input", (-1,), (-1, 3), False),
    "free here only, answered": ("output", (-1,), (-1, 3), True),
    "another size": ("input", (3,), (-1, 4), False),
    "another size, answered": ("output", (3,), (-1, 4), False),
    "another rank": ("input", (3,), (-1, 3, 1), False),
    "no axis for rows": ("input", (3,), (3,), False),
    "one row at a time": ("input", (3,), (1, 3), False),
    "one row at a time, answered": ("output", (3,), (1, 3), False),
    "no shape": ("input", (), (), False),
}
"""Role, shape declared, shape there, whether it fits."""


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_fit_when_the_rows_can_be_sent_and_read(case: str) -> None:
    role, ours, theirs, fits = SHAPES[case]
    spec = TensorSpec(name="x", datatype="FP32", shape=ours)
    tensor = TensorMetadata(name="x", datatype="FP32", shape=theirs)

    with contextlib.nullcontext() if fits else pytest.raises(RemoteMismatch, match=f"{role} 'x' .* does not fit"):
        compare_tensors(ADDRESS, role, [spec], [tensor])


def test_a_tensor_too_few_or_too_many_is_named() -> None:
    x, y = (TensorSpec(name=name, datatype="FP32") for name in "xy")
    there = [TensorMetadata(name="x", datatype="FP32", shape=(-1,))]

    with pytest.raises(RemoteMismatch, match="has no input 'y', expected one of 'x'"):
        compare_tensors(ADDRESS, "input", [x, y], there)
    with pytest.raises(RemoteMismatch, match="needs input 'x', expected only 'y'"):
        compare_tensors(ADDRESS, "input", [y], [*there, TensorMetadata(name="y", datatype="FP32", shape=(-1,))])
    with pytest.raises(RemoteMismatch, match=r"tensor 'z' of .* has datatype 'BF16'"):
        specs_of(ADDRESS, [TensorMetadata(name="z", datatype="BF16", shape=(-1,))], [])
    compare_tensors(ADDRESS, "output", [x], [*there, TensorMetadata(name="z", datatype="BF16", shape=(-1,))])


@pytest.mark.parametrize(
    ("url", "host", "model"),
    [
        ("grpc://triton:9000/churn", "triton:9000", "churn"),
        ("grpc://triton/churn", "triton:8001", "churn"),
        ("http://triton/churn/", "triton:8000", "churn"),
        ("https://models.example/churn", "models.example:443", "churn"),
        ("grpcs://[::1]:8001/churn", "[::1]:8001", "churn"),
    ],
)
def test_a_remote_is_read(url: str, host: str, model: str) -> None:
    address = parse_remote(url)

    assert (address.host, address.model) == (host, model)


@pytest.mark.parametrize(
    "url",
    ["churn", "ftp://a/b", "grpc:///churn", "grpc://a", "grpc://a/b/c", "http://a:b/c", "http://a/b?c", "http://u@a/b"],
)
def test_a_remote_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not usable"):
        parse_remote(url)
