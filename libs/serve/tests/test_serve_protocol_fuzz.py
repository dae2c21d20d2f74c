"""Random and broken protocol requests are answered with a 2xx or a 4xx, never with a 5xx, and never hang."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_service import Running, running, write_wide

NAME = "fuzzed"
SPECS = {
    "ratio": ("FP32", []),
    "income": ("FP32", []),
    "count": ("INT64", []),
    "on": ("BOOL", []),
    "word": ("BYTES", []),
    "blob": ("BYTES", []),
    "kind": ("BYTES", []),
    "colour": ("BYTES", []),
    "place.lat": ("FP32", []),
    "place.lon": ("FP32", []),
    "trio": ("FP32", [3]),
    "grid": ("FP32", [2, 3]),
}
GOOD: dict[str, list[object]] = {"FP32": [0.5], "INT64": [1], "BOOL": [True], "BYTES": ["small"]}

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**80), 2**80), st.floats(), st.text(max_size=8)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner))
sizes = st.one_of(st.integers(-3, 7), st.integers(), scalars)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME)) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


@st.composite
def tensors(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A good request with a few members broken."""
    rows = draw(st.integers(1, 3))
    inputs: list[dict[str, Any]] = []
    for name, (datatype, shape) in SPECS.items():
        size = rows
        for length in shape:
            size *= length
        word = "blue" if name == "colour" else "small"
        data = [word] * size if datatype == "BYTES" else GOOD[datatype] * size
        inputs.append({"name": name, "datatype": datatype, "shape": [rows, *shape], "data": data})
    for _ in range(draw(st.integers(0, 3))):
        tensor = draw(st.sampled_from(inputs))
        member = draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters", "drop"]))
        match member:
            case "drop":
                tensor.pop(draw(st.sampled_from(sorted(tensor))))
            case "shape":
                tensor["shape"] = draw(st.lists(sizes, max_size=4) | values)
            case "parameters":
                keys = st.sampled_from(["binary_data_size", "shared_memory_region", "other"])
                tensor["parameters"] = draw(st.dictionaries(keys, sizes, max_size=3) | values)
            case "name":
                tensor["name"] = draw(st.sampled_from(sorted(SPECS)) | values)
            case _:
                tensor[member] = draw(values)
    return inputs


outputs = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["word", "sums", "blob", "nope"]) | values},
        optional={"parameters": st.dictionaries(st.sampled_from(["binary_data", "classification"]), scalars)},
    ),
    max_size=4,
)


@given(
    inputs=tensors(),
    outputs=st.none() | outputs | values,
    parameters=st.none() | st.dictionaries(st.sampled_from(["timeout", "binary_data_output", "x"]), scalars) | values,
    tail=st.binary(max_size=40),
    length=st.none() | st.integers(-5, 5) | st.just("x"),
)
@settings(max_examples=150)
def test_a_broken_request_is_a_client_s_error(
    client: httpx.Client, inputs: Any, outputs: Any, parameters: Any, tail: bytes, length: Any
) -> None:
    head = json.dumps({"inputs": inputs, "outputs": outputs, "parameters": parameters}).encode()
    headers = {"content-type": "application/octet-stream"}
    if length is not None:
        headers["inference-header-content-length"] = str(len(head) + length if isinstance(length, int) else length)

    response = client.post(f"/v2/models/{NAME}/infer", content=head + tail, headers=headers)

    expected = {200, 400, 422}
    if isinstance(parameters, dict) and "timeout" in parameters:
        expected |= {503, 504}  # the client asked for microseconds, and the honest answer is that it cannot be done
    assert response.status_code in expected, response.text
    if response.status_code != 200:
        assert response.json()["error"]


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 300))
def test_noise_is_a_client_s_error(client: httpx.Client, body: bytes, length: int | None) -> None:
    headers = {} if length is None else {"inference-header-content-length": str(length)}

    response = client.post(f"/v2/models/{NAME}/infer", content=body, headers=headers)

    assert response.status_code in {400, 422}
    assert response.json()["error"]
