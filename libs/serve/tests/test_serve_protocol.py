"""The Open Inference Protocol over a real server: what each path answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from web_service import Running, running, write_wide
from web_tensors import binary, given, outputs_of, tensors

from slipway_bundle import ConfigError
from slipway_serve.inference import published_models

NAME = "protocol"
RUNTIME = f"[runtime.limits]\nrows = 8\n\n[runtime.models.{NAME}]\nmax_rows = 4\n"
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME, RUNTIME)) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


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


def test_more_rows_than_a_batch_takes_are_one_answer_in_order(client: httpx.Client) -> None:
    inputs = tensors(7)
    given(inputs, "count")["data"] = list(range(7))

    outputs = outputs_of(client.post(INFER, json={"inputs": inputs}))

    assert outputs["count"]["data"] == list(range(7))
    assert outputs["sums"]["shape"] == [7, 2]


def test_a_bad_row_beyond_the_first_batch_has_its_own_number(client: httpx.Client) -> None:
    inputs = tensors(7)
    given(inputs, "count")["data"] = [1, 1, 1, 1, 1, 5000, 1]

    problem = client.post(INFER, json={"inputs": inputs}).json()

    assert problem["path"] == "$.inputs[2].data[5]"
    assert "row 5" in problem["detail"]


@pytest.mark.parametrize(("header_ms", "timeout_us"), [("60000", 1), ("0.0001", 60_000_000)])
def test_of_two_timeouts_the_shorter_counts(client: httpx.Client, header_ms: str, timeout_us: int) -> None:
    body = {"inputs": tensors(), "parameters": {"timeout": timeout_us}}

    response = client.post(INFER, json=body, headers={"x-slipway-timeout-ms": header_ms})

    assert response.status_code in {503, 504}


def test_a_long_timeout_outlasts_the_deadline_class(client: httpx.Client) -> None:
    response = client.post(INFER, json={"inputs": tensors(), "parameters": {"timeout": 10**15}})

    assert response.status_code == 200


def test_inner_models_are_published_when_the_configuration_says_so(tmp_path: Path) -> None:
    folder = write_wide(tmp_path, "opened", '[runtime]\npublish = ["opened_inner"]\n')

    with running(folder) as served, served.client() as client:
        metadata = client.get("/v2/models/opened_inner")

    assert metadata.json()["name"] == "opened_inner"


def test_two_services_cannot_publish_one_model(server: Running) -> None:
    with pytest.raises(ConfigError, match=f"both publish a model '{NAME}'"):
        published_models([server.engines[0], server.engines[0]])
