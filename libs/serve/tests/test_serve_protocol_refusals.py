"""How the Open Inference Protocol refuses: status, code, path, got and expected, for each way to be wrong."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from web_service import Running, running, write_wide
from web_tensors import binary, given, tensors

NAME = "refused"
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME, "[runtime.limits]\nrows = 8\n")) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


Change = Callable[[list[dict[str, Any]]], object]

BAD: dict[str, tuple[Change, str, str]] = {
    "missing tensor": (lambda i: i.pop(2), "tensor_missing", "$.inputs"),
    "unknown tensor": (lambda i: i[0].update(name="ration"), "tensor_unknown", "$.inputs[0].name"),
    "doubled tensor": (lambda i: i[1].update(name="ratio"), "tensor_doubled", "$.inputs[1].name"),
    "wrong datatype": (lambda i: i[0].update(datatype="FP64"), "datatype_mismatch", "$.inputs[0].datatype"),
    "unknown datatype": (lambda i: i[0].update(datatype="FLOAT"), "datatype_mismatch", "$.inputs[0].datatype"),
    "no rows": (lambda i: i[0].update(shape=[0], data=[]), "rows_exceeded", "$.inputs[0].shape[0]"),
    "negative rows": (lambda i: i[0].update(shape=[-1]), "rows_exceeded", "$.inputs[0].shape[0]"),
    "too many rows": (lambda i: i[0].update(shape=[9], data=[0] * 9), "rows_exceeded", "$.inputs[0].shape[0]"),
    "huge rows": (lambda i: i[0].update(shape=[2**62]), "rows_exceeded", "$.inputs[0].shape[0]"),
    "beyond 64 bits": (lambda i: i[0].update(shape=[10**30]), "rows_exceeded", "$.inputs[0].shape[0]"),
    "other rows": (lambda i: i[1].update(shape=[1], data=[1]), "shape_mismatch", "$.inputs[1].shape[0]"),
    "no axis": (lambda i: i[0].update(shape=[]), "shape_mismatch", "$.inputs[0].shape"),
    "an axis more": (lambda i: i[0].update(shape=[2, 2]), "shape_mismatch", "$.inputs[0].shape"),
    "other size": (lambda i: i[10].update(shape=[2, 4]), "shape_mismatch", "$.inputs[10].shape[1]"),
    "too little data": (lambda i: i[0].update(data=[1.0]), "data_mismatch", "$.inputs[0].data"),
    "too much data": (lambda i: i[0].update(data=[1.0] * 3), "data_mismatch", "$.inputs[0].data"),
    "ragged data": (lambda i: i[10].update(data=[[1, 2, 3], [1, 2]]), "data_mismatch", "$.inputs[10].data[1]"),
    "no data": (lambda i: i[0].pop("data"), "data_missing", "$.inputs[0].data"),
    "null data": (lambda i: i[0].update(data=None), "data_missing", "$.inputs[0].data"),
    "data is no list": (lambda i: i[0].update(data=1), "data_mismatch", "$.inputs[0].data"),
    "text for a number": (lambda i: i[0].update(data=[0.5, "a"]), "data_mismatch", "$.inputs[0].data[1]"),
    "null for a number": (lambda i: i[0].update(data=[None, 0.5]), "data_mismatch", "$.inputs[0].data[0]"),
    "bool for a number": (lambda i: i[2].update(data=[1, True]), "data_mismatch", "$.inputs[2].data[1]"),
    "float for an integer": (lambda i: i[2].update(data=[1.0, 2]), "data_mismatch", "$.inputs[2].data[0]"),
    "integer of 70 bits": (lambda i: i[2].update(data=[1, 2**70]), "data_mismatch", "$.inputs[2].data[1]"),
    "number for a bool": (lambda i: i[3].update(data=[True, 1]), "data_mismatch", "$.inputs[3].data[1]"),
    "value out of bounds": (lambda i: i[0].update(data=[0.5, 2.0]), "row_invalid", "$.inputs[0].data[1]"),
    "value beyond FP32": (lambda i: i[9].update(data=[1e300, 1]), "row_invalid", "$.inputs[9].data[0]"),
    "value in a matrix": (
        lambda i: i[11].update(data=[1.0] * 11 + [1e39]),
        "row_invalid",
        "$.inputs[11].data[1][1][2]",
    ),
    "not a choice": (lambda i: i[6].update(data=["small", "huge"]), "row_invalid", "$.inputs[6].data[1]"),
    "shared memory": (
        lambda i: i[0].update(parameters={"shared_memory_region": "a"}),
        "shared_memory",
        "$.inputs[0].parameters.shared_memory_region",
    ),
    "binary without a header": (
        lambda i: (i[0].pop("data"), i[0].update(parameters={"binary_data_size": 8})),
        "data_mismatch",
        "$.inputs[0].parameters.binary_data_size",
    ),
    "not a shape": (lambda i: i[0].update(shape=["a"]), "schema_mismatch", "$.inputs[0].shape[0]"),
    "a name that is none": (lambda i: i[0].update(name=3), "schema_mismatch", "$.inputs[0].name"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_with_its_path_what_it_got_and_what_was_expected(
    client: httpx.Client, case: str
) -> None:
    change, code, path = BAD[case]
    inputs = tensors()
    change(inputs)

    response = client.post(INFER, json={"inputs": inputs})

    problem = response.json()
    assert response.status_code == (422 if code in {"row_invalid", "schema_mismatch"} else 400), problem
    assert (problem["code"], problem["path"]) == (code, path)
    assert "expected" in problem["detail"].lower()
    assert path in problem["error"]
    assert response.headers["content-type"] == "application/problem+json"


BAD_BINARY: dict[str, tuple[str, Callable[[dict[str, Any]], None], Callable[[bytes], bytes], str]] = {
    "a byte short": ("grid", lambda _: None, lambda raw: raw[:-1], "$.inputs[11].parameters.binary_data_size"),
    "a byte more": ("grid", lambda _: None, lambda raw: raw + b"\0", "$.inputs"),
    "size below zero": (
        "grid",
        lambda t: t["parameters"].update(binary_data_size=-1),
        lambda raw: raw,
        "$.inputs[11].parameters.binary_data_size",
    ),
    "size that does not fit the shape": (
        "grid",
        lambda t: t["parameters"].update(binary_data_size=44),
        lambda raw: raw[:44],
        "$.inputs[11].parameters.binary_data_size",
    ),
    "data beside binary": ("grid", lambda t: t.update(data=[1]), lambda raw: raw, "$.inputs[11].data"),
    "a bool that is 2": ("on", lambda _: None, lambda _: b"\1\2", "$.inputs[3]"),
    "a length beyond the data": ("word", lambda _: None, lambda raw: b"\xff\xff\xff\xff" + raw[4:], "$.inputs[4]"),
    "not UTF-8": ("word", lambda _: None, lambda raw: raw[:4] + b"\xff" + raw[5:], "$.inputs[4]"),
    "an element less": (
        "word",
        lambda t: t["parameters"].update(binary_data_size=10),
        lambda raw: raw[:10],
        "$.inputs[4]",
    ),
}


@pytest.mark.parametrize("case", BAD_BINARY)
def test_bad_binary_data_is_refused_with_its_path(client: httpx.Client, case: str) -> None:
    name, change, damage, path = BAD_BINARY[case]
    inputs = tensors()
    body, headers = binary(inputs, name)
    length = int(headers["inference-header-content-length"])
    change(given(inputs, name))
    head = json.dumps({"inputs": inputs}).encode()

    response = client.post(
        INFER,
        content=head + damage(body[length:]),
        headers={**headers, "inference-header-content-length": str(len(head))},
    )

    assert (response.status_code, response.json()["path"]) == (400, path), response.text
    assert response.json()["error"]


@pytest.mark.parametrize("length", ["-1", "a", "", "99999999999999999999999", "1e3"])
def test_a_header_length_that_is_none_is_refused(client: httpx.Client, length: str) -> None:
    response = client.post(INFER, json={"inputs": tensors()}, headers={"inference-header-content-length": length})

    assert (response.status_code, response.json()["code"]) == (400, "header_length")


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"name": "margin"}, "tensor_unknown"),
        ({"name": "sums", "parameters": {"classification": 2}}, "extension_unknown"),
        ({"name": "sums", "parameters": {"shared_memory_region": "a"}}, "extension_unknown"),
    ],
)
def test_outputs_that_cannot_be_answered_are_refused(client: httpx.Client, output: object, code: str) -> None:
    response = client.post(INFER, json={"inputs": tensors(), "outputs": [output]})

    assert (response.status_code, response.json()["code"]) == (400, code)


def test_an_output_may_be_asked_for_once(client: httpx.Client) -> None:
    response = client.post(INFER, json={"inputs": tensors(), "outputs": [{"name": "word"}] * 2})

    assert (response.status_code, response.json()["path"]) == (400, "$.outputs[1].name")


def test_bytes_that_are_not_text_cannot_be_json(client: httpx.Client) -> None:
    inputs = tensors(1)
    body, headers = binary(inputs, "blob")
    body = body.replace("\x00é".encode(), b"\xff\xfe\xfd")

    response = client.post(INFER, content=body, headers=headers)

    assert (response.status_code, response.json()["code"]) == (400, "output_not_text")
