"""Stream models over gRPC: items as they come, the marked end, requests side by side, errors in-band."""

import json
import queue
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]  # the package has no types
from grpc_service import BothProtocols, both_protocols, stub_of
from grpc_stream_service import PLACES, STAGES, WAIT_S, is_final, problem_in, prompt, row, talking, word, write_chatty

from slipway_bundle import ConfigError
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.status import PROBLEM_KEY

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothProtocols]:
    with both_protocols(write_chatty(tmp_path_factory.mktemp("chatty"), "grpc_chatty_service")) as running:
        yield running
        for stage in STAGES.values():
            stage.go_on.set()


@pytest.fixture
def stub(server: BothProtocols) -> Iterator[Any]:
    with stub_of(server.address) as made:
        yield made


def refusal(call: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    return error.code(), error.details(), msgspec.json.decode(dict(error.trailing_metadata())[PROBLEM_KEY])


def test_each_item_is_a_response_and_the_last_one_says_that_it_is(stub: Any) -> None:
    with talking(stub) as conversation:
        *items, last = conversation.answer_to(prompt("to be or not"))
        rest = conversation.end()

    assert [word(item) for item in items] == ["to", "be", "or", "not"]
    assert {item.infer_response.id for item in (*items, last)} == {"to be or not"}
    assert {item.infer_response.model_name for item in (*items, last)} == {"chat"}
    assert [is_final(item) for item in (*items, last)] == [False] * 4 + [True]
    assert all("triton_final_response" in item.infer_response.parameters for item in items)
    assert (list(last.infer_response.outputs), last.error_message, rest) == ([], "", [])


def test_an_item_is_one_row_of_tensors(stub: Any) -> None:
    with talking(stub) as conversation:
        item, _ = conversation.answer_to(prompt("héllo", pitch=2.5))

    outputs = {output.name: output for output in item.infer_response.outputs}
    assert {name: (output.datatype, list(output.shape)) for name, output in outputs.items()} == {
        "word": ("BYTES", [1]),
        "place": ("INT64", [1]),
        "sound": ("FP32", [1, 2]),
        "is_silent": ("BOOL", [1]),
    }
    assert list(outputs["word"].contents.bytes_contents) == ["héllo".encode()]
    assert list(outputs["place"].contents.int64_contents) == [0]
    assert list(outputs["sound"].contents.fp32_contents) == [2.5, 0.5]
    assert list(outputs["is_silent"].contents.bool_contents) == [False]  # NaN of the prompt: the value is missing


def test_outputs_come_as_asked(stub: Any) -> None:
    request = prompt("one two")
    request.outputs.add(name="place")
    request.parameters["binary_data_output"].bool_param = True

    with talking(stub) as conversation:
        *items, _ = conversation.answer_to(request)

    assert [[output.name for output in item.infer_response.outputs] for item in items] == [["place"]] * 2
    assert [np.frombuffer(item.infer_response.raw_output_contents[0], "<i8")[0] for item in items] == [0, 1]


def test_tritons_own_client_reads_to_the_final_response(server: BothProtocols) -> None:
    got: queue.Queue[Any] = queue.Queue()
    given = [triton.InferInput("text", [1], "BYTES"), triton.InferInput("way", [1], "BYTES")]
    for tensor, said in zip(given, ("so it goes", "plainly"), strict=True):
        tensor.set_data_from_numpy(np.array([said.encode()], np.object_))
    given += [
        triton.InferInput(name, [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
        for name in ("tone.pitch", "tone.rest")
    ]

    with triton.InferenceServerClient(server.address) as client:
        client.start_stream(callback=lambda result, error: got.put((result, error)))
        client.async_stream_infer("chat", given, request_id="r", enable_empty_final_response=True)
        responses: list[Any] = []
        while not responses or not responses[-1].get_response().parameters["triton_final_response"].bool_param:
            result, error = got.get(timeout=WAIT_S)
            assert error is None
            responses.append(result)
        client.stop_stream()

    *items, last = responses
    assert [item.as_numpy("word").tolist() for item in items] == [[b"so"], [b"it"], [b"goes"]]
    assert {item.get_response().id for item in responses} == {"r"}
    assert last.as_numpy("word") is None


def test_an_item_is_there_before_the_next_one_is_made(stub: Any) -> None:
    stage = STAGES["early bird"]

    with talking(stub) as conversation:
        conversation.ask(prompt("early bird", "waits"))
        first, produced = word(conversation.next()), stage.produced
        stage.go_on.set()
        rest = conversation.end()

    assert (first, produced) == ("early", 1)
    assert [word(item) for item in rest[:-1]] == ["bird"]


def test_a_stream_without_items_is_its_end_alone(stub: Any) -> None:
    with talking(stub) as conversation:
        responses = conversation.answer_to(prompt(""))

    assert [(is_final(item), item.error_message) for item in responses] == [(True, "")]


def test_an_open_stream_holds_up_neither_another_nor_ordinary_models(stub: Any) -> None:
    stage = STAGES["slow going"]

    with talking(stub) as conversation:
        conversation.ask(prompt("slow going", "waits"))
        first = word(conversation.next())
        beside = conversation.answer_to(prompt("be quick"))
        rows = [conversation.answer_to(row(x)) for x in (1.0, 2.0)]
        stage.go_on.set()
        rest = conversation.end()

    assert (first, [word(item) for item in beside[:-1]]) == ("slow", ["be", "quick"])
    assert [answer.infer_response.outputs[0].contents.fp64_contents[0] for (answer,) in rows] == [2.0, 4.0]
    assert [is_final(answer) for (answer,) in rows] == [True, True]
    assert [(item.infer_response.id, is_final(item)) for item in rest] == [("slow going", False), ("slow going", True)]


def test_more_streams_than_places_are_refused_with_the_time_to_come_back(server: BothProtocols, stub: Any) -> None:
    texts = [f"place {index}" for index in range(PLACES)]

    with talking(stub) as conversation:
        conversation.ask(*(prompt(text, "waits") for text in texts))
        firsts = {conversation.next().infer_response.id for _ in texts}
        (refused,) = conversation.answer_to(prompt("one more"))
        for text in texts:
            STAGES[text].go_on.set()
        ends = [conversation.next() for _ in range(2 * PLACES)]
        after = conversation.answer_to(prompt("one more"))

    assert firsts == set(texts)
    assert refused.infer_response.id == "one more"
    assert (problem_in(refused)["status"], problem_in(refused)["code"]) == (503, "refused_queue_full")
    assert int(refused.infer_response.parameters["grpc-retry-pushback-ms"].string_param) >= 1
    assert "retry after 0." in refused.error_message
    assert sum(map(is_final, ends)) == PLACES
    assert [word(item) for item in after[:-1]] == ["one", "more"]
    assert server.metrics.wait_for((STREAM, "POST", 503))


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("well then", "fails at once"),
        ("well then", "fails at the end"),
        ("well then", "breaks its schema"),
        ("x" * 101, "plainly"),
        ("unspeakable", "plainly"),
    ],
)
def test_an_error_is_that_of_http_and_the_next_request_is_answered(
    server: BothProtocols, stub: Any, text: str, way: str
) -> None:
    with server.client() as http:
        body = {"text": text, "way": way, "tone": {"pitch": 1.5, "rest": None}}
        answer = http.post("/chat", json=body, headers={"accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    expected = lines[-1].get("error", lines[-1])

    with talking(stub) as conversation:
        *items, failed = conversation.answer_to(prompt(text, way))
        again = conversation.answer_to(prompt("go on"))

    problem = problem_in(failed)
    assert len(items) == len(lines) - 1
    assert problem["status"] == expected["status"]
    if problem["status"] == 500:
        assert (problem["code"], problem["detail"]) == (expected["code"], expected["detail"])
        assert problem["instance"]
    if text == "unspeakable":
        assert "`$` was refused by `Prompt`: not that word" in failed.error_message
    assert failed.error_message
    assert "secret" not in str(failed)
    assert failed.infer_response.id == text
    assert [word(item) for item in again[:-1]] == ["go", "on"]
    assert server.metrics.wait_for((STREAM, "POST", problem["status"]))


def test_an_item_that_is_no_row_of_tensors_is_our_error(stub: Any) -> None:
    with talking(stub) as conversation:
        *items, failed = conversation.answer_to(prompt("out of", "breaks its shape"))

    assert len(items) == 2
    assert (problem_in(failed)["status"], problem_in(failed)["code"]) == (500, "answer_invalid")
    assert STAGES["out of"].closed.wait(WAIT_S)


def two_rows(request: pb.ModelInferRequest) -> None:
    for given in request.inputs:
        given.shape[:] = [2]


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        (two_rows, "rows_exceeded", "$.inputs[0].shape[0]"),
        (lambda r: r.inputs.pop(), "tensor_missing", "$.inputs"),
        (lambda r: setattr(r.inputs[1], "datatype", "FP32"), "datatype_mismatch", "$.inputs[1].datatype"),
        (lambda r: r.outputs.add(name="words"), "tensor_unknown", "$.outputs[0].name"),
        (
            lambda r: r.inputs[2].contents.fp32_contents.__setitem__(0, -1.0),
            "row_invalid",
            "$.inputs[2].contents[0]",
        ),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_at_its_place(stub: Any, change: Any, code: str, path: str) -> None:
    request = prompt("ill formed")
    change(request)

    with talking(stub) as conversation:
        (failed,) = conversation.answer_to(request)

    assert (problem_in(failed)["code"], problem_in(failed)["path"]) == (code, path)
    assert path in failed.error_message


def test_one_call_for_one_answer_names_the_call_for_streams(stub: Any) -> None:
    code, sentence, problem = refusal(partial(stub.ModelInfer, prompt("once")))

    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "'chat' is a stream model" in sentence
    assert "expected `ModelStreamInfer`" in sentence
    assert "POST /chat" in problem["hint"]


def test_the_metadata_of_a_stream_model_is_its_prompt_and_its_item(stub: Any) -> None:
    described = stub.ModelMetadata(pb.ModelMetadataRequest(name="chat", version="1"))

    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in described.inputs] == [
        ("text", "BYTES", [-1]),
        ("way", "BYTES", [-1]),
        ("tone.pitch", "FP32", [-1]),
        ("tone.rest", "FP32", [-1]),
    ]
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in described.outputs] == [
        ("word", "BYTES", [-1]),
        ("place", "INT64", [-1]),
        ("sound", "FP32", [-1, 2]),
        ("is_silent", "BOOL", [-1]),
    ]
    assert (described.name, list(described.versions)) == ("chat", ["1"])


def test_a_stream_model_is_ready_while_the_server_does_not_drain(server: BothProtocols, stub: Any) -> None:
    request = pb.ModelReadyRequest(name="chat")

    before = stub.ModelReady(request).ready
    server.state.is_draining = True
    during = stub.ModelReady(request).ready
    server.state.is_draining = False

    assert (before, during) == (True, False)
    assert refusal(lambda: stub.ModelReady(pb.ModelReadyRequest(name="chat", version="7")))[0] == (
        grpc.StatusCode.NOT_FOUND
    )


def test_a_stream_model_whose_fields_are_no_tensors_is_refused_in_the_words_of_ordinary_models(
    server: BothProtocols, stub: Any
) -> None:
    refusals = [
        refusal(partial(stub.ModelMetadata, pb.ModelMetadataRequest(name="loose"))),
        refusal(partial(stub.ModelInfer, pb.ModelInferRequest(model_name="loose"))),
    ]
    with talking(stub) as conversation:
        (failed,) = conversation.answer_to(pb.ModelInferRequest(model_name="loose"))
    with server.client() as http:
        over_http = http.post("/loose", json={"text": "still"}, headers={"accept": "application/x-ndjson"})

    assert {code for code, _, _ in refusals} == {grpc.StatusCode.UNIMPLEMENTED}
    for sentence in (failed.error_message, *(sentence for _, sentence, _ in refusals)):
        assert "field `Loose.text` has a default, expected none" in sentence
    assert over_http.json() == {"text": "still"}


def test_an_inner_stream_model_is_there_when_it_is_published(stub: Any, tmp_path: Path) -> None:
    with talking(stub) as conversation:
        (unknown,) = conversation.answer_to(prompt("psst", name="hidden"))

    published = write_chatty(tmp_path, "grpc_chatty_published_service")
    settings = (published / "slipway.toml").read_text()
    (published / "slipway.toml").write_text(f'{settings}\n[runtime]\npublish = ["hidden"]\n')
    with both_protocols(published) as server, stub_of(server.address) as there, talking(there) as conversation:
        told = conversation.answer_to(prompt("psst", name="hidden"))

    assert "no model 'hidden' is published, expected 'double', 'chat', 'loose'" in unknown.error_message
    assert "publish" in problem_in(unknown)["hint"]
    assert [word(item) for item in told[:-1]] == ["psst"]


def test_two_services_with_one_stream_model_are_refused_together(tmp_path: Path) -> None:
    folders = [write_chatty(tmp_path / name, f"grpc_chatty_{name}_service") for name in ("one", "two")]
    for folder in folders[1:]:
        source = folder / "src" / "grpc_chatty_two_service.py"
        source.write_text(source.read_text().replace('"double"', '"triple"'))
        settings = folder / "slipway.toml"
        settings.write_text(settings.read_text().replace("models.double", "models.triple"))

    with pytest.raises(ConfigError, match="both publish a model 'chat' over gRPC"), both_protocols(*folders):
        pass
