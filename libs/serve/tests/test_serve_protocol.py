"""The Open Inference Protocol over a real server: what each path answers, and how it refuses."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from web_service import Running, running, write_wide

from slipway_bundle import ConfigError
from slipway_serve.inference import published_models

NAME = "protocol"
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME, "[runtime.limits]\nrows = 8\n")) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


def tensors(rows: int = 2) -> list[dict[str, Any]]:
    """A good request's inputs, as JSON."""
    columns: dict[str, tuple[str, list[int], list[Any]]] = {
        "ratio": ("FP32", [], [0.25]),
        "income": ("FP32", [], [None]),
        "count": ("INT64", [], [3]),
        "on": ("BOOL", [], [True]),
        "word": ("BYTES", [], ["héllo"]),
        "blob": ("BYTES", [], ["\x00é"]),
        "kind": ("BYTES", [], ["small"]),
        "colour": ("BYTES", [], ["blue"]),
        "place.lat": ("FP32", [], [1.5]),
        "place.lon": ("FP32", [], [2.5]),
        "trio": ("FP32", [3], [1.0, 2.0, 3.0]),
        "grid": ("FP32", [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    }
    return [
        {"name": name, "datatype": datatype, "shape": [rows, *shape], "data": data * rows}
        for name, (datatype, shape, data) in columns.items()
    ]


def given(inputs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One of the inputs, to be changed."""
    return next(tensor for tensor in inputs if tensor["name"] == name)


def outputs_of(response: httpx.Response) -> dict[str, dict[str, Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def test_the_server_names_itself_and_its_extension(client: httpx.Client) -> None:
    metadata = client.get("/v2").json()

    assert metadata["name"] == "slipway"
    assert metadata["extensions"] == ["binary_tensor_data"]
    assert metadata["version"]


def test_health_and_model_readiness_are_answered_by_status(client: httpx.Client) -> None:
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        f"/v2/models/{NAME}/ready",
        f"/v2/models/{NAME}/versions/1/ready",
    ):
        assert client.get(path).status_code == 200


def test_a_draining_server_is_not_ready_but_alive(server: Running, client: httpx.Client) -> None:
    server.state.is_draining = True
    try:
        answers = [client.get(path) for path in ("/v2/health/ready", f"/v2/models/{NAME}/ready", "/v2/health/live")]
    finally:
        server.state.is_draining = False

    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].json() == {"ready": False}
    assert answers[1].json() == {"name": NAME, "ready": False}


def test_metadata_says_what_to_send(client: httpx.Client) -> None:
    metadata = client.get(f"/v2/models/{NAME}").json()

    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == "slipway_xgboost"
    shapes = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]}
    assert shapes == {tensor["name"]: (tensor["datatype"], [-1, *tensor["shape"][1:]]) for tensor in tensors()}
    assert {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]} == {
        "ratio_twice": "FP64",
        "count": "INT64",
        "on": "BOOL",
        "word": "BYTES",
        "blob": "BYTES",
        "sums": "FP32",
    }
    assert client.get(f"/v2/models/{NAME}/versions/1").json() == metadata


def test_json_in_json_out(client: httpx.Client) -> None:
    response = client.post(INFER, json={"id": "42", "inputs": tensors()})

    outputs = outputs_of(response)
    assert response.json()["id"] == "42"
    assert response.json()["model_name"] == NAME
    assert response.json()["model_version"] == "1"
    assert outputs["ratio_twice"] == {"name": "ratio_twice", "datatype": "FP64", "shape": [2], "data": [0.5, 0.5]}
    assert outputs["sums"] == {"name": "sums", "datatype": "FP32", "shape": [2, 2], "data": [6.0, 15.0, 6.0, 15.0]}
    assert outputs["count"]["data"] == [3, 3]
    assert outputs["on"]["data"] == [True, True]
    assert outputs["word"]["data"] == ["héllo", "héllo"]
    assert outputs["blob"]["data"] == ["\x00é", "\x00é"]


def test_nested_data_and_columns_with_their_own_axis_are_the_same_as_flat_data(client: httpx.Client) -> None:
    inputs = tensors()
    given(inputs, "grid")["data"] = [[[1, 2, 3], [4, 5, 6]]] * 2
    given(inputs, "trio")["data"] = [[1, 2, 3]] * 2
    given(inputs, "ratio")["shape"] = [2, 1]
    given(inputs, "word").update(shape=[2, 1], data=[["héllo"]] * 2)

    nested = client.post(INFER, json={"inputs": inputs})

    assert outputs_of(nested) == outputs_of(client.post(INFER, json={"inputs": tensors()}))


def test_outputs_come_as_asked_and_in_that_order(client: httpx.Client) -> None:
    wanted = [{"name": "word"}, {"name": "ratio_twice", "parameters": {"binary_data": True}}]

    response = client.post(INFER, json={"inputs": tensors(), "outputs": wanted})

    length = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:length])["outputs"]
    assert [output["name"] for output in outputs] == ["word", "ratio_twice"]
    assert outputs[1]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(response.content[length:]).tolist() == [0.5, 0.5]
    assert response.headers["content-type"] == "application/octet-stream"


def binary(inputs: list[dict[str, Any]], *names: str, **members: Any) -> tuple[bytes, dict[str, str]]:
    """The request with some inputs as binary, and its headers."""
    dtypes = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}
    tail = b""
    for tensor in inputs:
        if tensor["name"] not in names:
            continue
        data = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            raw = b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in data)
        else:
            raw = np.array(data, dtype=dtypes[tensor["datatype"]]).tobytes()
        tensor["parameters"] = {"binary_data_size": len(raw)}
        tail += raw
    head = json.dumps({"inputs": inputs, **members}).encode()
    return head + tail, {
        "inference-header-content-length": str(len(head)),
        "content-type": "application/octet-stream",
    }


def test_binary_in_binary_out_is_the_same_as_json(client: httpx.Client) -> None:
    inputs = tensors()
    body, headers = binary(inputs, *(tensor["name"] for tensor in inputs), parameters={"binary_data_output": True})

    response = client.post(INFER, content=body, headers=headers)

    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    tail = response.content[length:]
    expected = outputs_of(client.post(INFER, json={"inputs": tensors()}))
    for output in json.loads(response.content[:length])["outputs"]:
        data, tail = tail[: output["parameters"]["binary_data_size"]], tail[output["parameters"]["binary_data_size"] :]
        assert output["shape"] == expected[output["name"]]["shape"]
        if output["datatype"] != "BYTES":
            dtype = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "BOOL": "?"}[output["datatype"]]
            assert np.frombuffer(data, dtype).tolist() == expected[output["name"]]["data"]
    assert tail == b""


def test_a_mix_of_binary_and_json_inputs_is_one_request(client: httpx.Client) -> None:
    body, headers = binary(tensors(), "grid", "word", "on")

    response = client.post(INFER, content=body, headers=headers)

    assert outputs_of(response) == outputs_of(client.post(INFER, json={"inputs": tensors()}))


def test_a_binary_nan_is_a_missing_value_only_where_the_schema_allows_it(client: httpx.Client) -> None:
    missing = tensors()
    given(missing, "income")["data"] = [float("nan")] * 2
    wrong = tensors()
    given(wrong, "ratio")["data"] = [0.5, float("nan")]

    body, headers = binary(missing, "income")
    taken = client.post(INFER, content=body, headers=headers)
    body, headers = binary(wrong, "ratio")
    refused = client.post(INFER, content=body, headers=headers)

    assert taken.status_code == 200
    assert (refused.status_code, refused.json()["path"]) == (422, "$.inputs[0].data[1]")


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


def test_an_unknown_model_or_version_is_a_404_that_names_what_is_there(client: httpx.Client) -> None:
    unknown = client.get("/v2/models/nope")
    inner = client.post(f"/v2/models/{NAME}_inner/infer", json={"inputs": tensors()})
    version = client.post(f"/v2/models/{NAME}/versions/7/infer", json={"inputs": tensors()})

    assert {answer.status_code for answer in (unknown, inner, version)} == {404}
    assert unknown.json()["error"] == f"no model 'nope' is published, expected '{NAME}'"
    assert "publish" in inner.json()["hint"]
    assert version.json()["code"] == "version_unknown"


def test_every_problem_under_v2_has_an_error_member(client: httpx.Client) -> None:
    answers = [
        client.get(INFER),
        client.post("/v2", json={}),
        client.post(INFER, content=b"{", headers={"content-type": "application/json"}),
        client.post(INFER, content=b"{}", headers={"content-type": "text/plain"}),
        client.post(INFER, json={"inputs": tensors()}, headers={"content-encoding": "gzip"}),
        client.post(INFER, json={"inputs": tensors(), "parameters": {"timeout": 0}}),
        client.get("/v2/nothing"),
    ]

    assert [answer.status_code for answer in answers] == [405, 405, 400, 415, 415, 400, 404]
    assert all(answer.json()["error"] for answer in answers)


def test_what_cannot_be_done_in_the_client_s_timeout_is_refused(client: httpx.Client) -> None:
    response = client.post(INFER, json={"inputs": tensors(), "parameters": {"timeout": 1}})

    assert response.status_code in {503, 504}
    assert response.json()["error"]


def test_inner_models_are_published_when_the_configuration_says_so(tmp_path: Path) -> None:
    folder = write_wide(tmp_path, "opened", '[runtime]\npublish = ["opened_inner"]\n')

    with running(folder) as served, served.client() as client:
        metadata = client.get("/v2/models/opened_inner")

    assert metadata.json()["name"] == "opened_inner"


def test_two_services_cannot_publish_one_model(server: Running) -> None:
    with pytest.raises(ConfigError, match=f"both publish a model '{NAME}'"):
        published_models([server.engines[0], server.engines[0]])
