"""How gRPC refuses: a clear code, a path, what it got and what was expected; UNKNOWN is never an answer."""

import gzip
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
from grpc_service import COLUMNS, WAIT_S, BothProtocols, both_protocols, stub_of
from hypothesis import given, settings
from hypothesis import strategies as st
from web_service import write_wide

from slipway_bundle import TensorSpec
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.status import CODES, PROBLEM_BYTES, PROBLEM_KEY, PUSHBACK_KEY, code_of, message_of, trailers_of
from slipway_serve.oip.wire import MOST, SMALL_BYTES, check_fields
from slipway_serve.problems import TITLES, Problem
from slipway_serve.tensor_data import to_binary

NAME = "unkind"
LIMITS = "[runtime.limits]\nrows = 8\nbody_bytes = 100_000\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
ORDER = tuple(COLUMNS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothProtocols]:
    with both_protocols(write_wide(tmp_path_factory.mktemp("wide"), NAME, LIMITS)) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: BothProtocols) -> Iterator[Any]:
    with stub_of(server.address) as made:
        yield made


def raw() -> pb.ModelInferRequest:
    """A good request with raw contents."""
    request = pb.ModelInferRequest(model_name=NAME)
    for name, (datatype, array) in COLUMNS.items():
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        spec = TensorSpec(name=name, datatype=datatype)  # type: ignore[arg-type]  # of the closed set
        request.raw_input_contents.append(to_binary(array, spec))
    return request


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    """Code, sentence and problem of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    trailers = dict(error.trailing_metadata() or ())
    problem = msgspec.json.decode(trailers[PROBLEM_KEY]) if PROBLEM_KEY in trailers else {}
    return error.code(), error.details(), problem


def bytewise(channel: grpc.Channel, method: str) -> Callable[[bytes], bytes]:
    """A method called with bytes that no serialiser has made."""
    call: Callable[[bytes], bytes] = channel.unary_unary(method, bytes, bytes)
    return call


Change = Callable[[Any], object]


def at(name: str) -> int:
    return ORDER.index(name)


def truncated(name: str, by: int) -> Change:
    def change(request: Any) -> None:
        request.raw_input_contents[at(name)] = request.raw_input_contents[at(name)][:-by]

    return change


def put(name: str, data: bytes) -> Change:
    def change(request: Any) -> None:
        request.raw_input_contents[at(name)] = data

    return change


def shape(name: str, *sizes: int) -> Change:
    def change(request: Any) -> None:
        request.inputs[at(name)].shape[:] = sizes

    return change


def typed(name: str, datatype: str, field: str, values: list[Any]) -> Change:
    """All inputs typed and empty but this one: it is the first that is read."""

    def change(request: Any) -> None:
        del request.raw_input_contents[:]
        chosen = request.inputs[at(name)]
        kept = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=chosen.shape)
        getattr(kept.contents, field).extend(values)
        del request.inputs[:]
        request.inputs.append(kept)

    return change


BAD: dict[str, tuple[Change, str, str]] = {
    "a byte short": (truncated("grid", 1), "data_mismatch", "$.raw_input_contents[11]"),
    "no bytes": (put("grid", b""), "data_mismatch", "$.raw_input_contents[11]"),
    "a bool that is 2": (put("on", b"\1\2"), "data_mismatch", "$.raw_input_contents[3]"),
    "a length beyond the data": (put("word", b"\xff" * 8), "data_mismatch", "$.raw_input_contents[4]"),
    "half a length": (put("word", b"\0"), "data_mismatch", "$.raw_input_contents[4]"),
    "not UTF-8": (
        put("word", struct.pack("<I", 1) + b"\xff" + struct.pack("<I", 0)),
        "data_mismatch",
        "$.raw_input_contents[4]",
    ),
    "a value out of bounds": (
        put("ratio", np.array([0.5, 2], "<f4").tobytes()),
        "row_invalid",
        "$.raw_input_contents[0][1]",
    ),
    "a raw too few": (lambda r: r.raw_input_contents.pop(), "data_mismatch", "$.raw_input_contents"),
    "a raw too many": (lambda r: r.raw_input_contents.append(b""), "data_mismatch", "$.raw_input_contents"),
    "raw and typed": (
        lambda r: r.inputs[0].contents.fp32_contents.append(1),
        "data_mismatch",
        "$.inputs[0].contents",
    ),
    "neither raw nor typed": (
        lambda r: r.ClearField("raw_input_contents"),
        "data_missing",
        "$.inputs[0].contents",
    ),
    "a typed field of another datatype": (
        typed("ratio", "FP32", "fp64_contents", [0.5, 0.5]),
        "data_mismatch",
        "$.inputs[0].contents",
    ),
    "too few typed elements": (
        typed("ratio", "FP32", "fp32_contents", [0.5]),
        "data_mismatch",
        "$.inputs[0].contents.fp32_contents",
    ),
    "typed text that is none": (
        typed("word", "BYTES", "bytes_contents", [b"\xff", b""]),
        "data_mismatch",
        "$.inputs[0].contents",
    ),
    "another datatype": (
        lambda r: setattr(r.inputs[0], "datatype", "FP64"),
        "datatype_mismatch",
        "$.inputs[0].datatype",
    ),
    "no datatype": (lambda r: r.inputs[0].ClearField("datatype"), "datatype_mismatch", "$.inputs[0].datatype"),
    "an unknown tensor": (lambda r: setattr(r.inputs[0], "name", "ration"), "tensor_unknown", "$.inputs[0].name"),
    "a doubled tensor": (lambda r: setattr(r.inputs[1], "name", "ratio"), "tensor_doubled", "$.inputs[1].name"),
    "no tensors": (
        lambda r: (r.ClearField("inputs"), r.ClearField("raw_input_contents")),
        "tensor_missing",
        "$.inputs",
    ),
    "huge rows": (shape("ratio", 2**62), "rows_exceeded", "$.inputs[0].shape[0]"),
    "negative rows": (shape("ratio", -1), "rows_exceeded", "$.inputs[0].shape[0]"),
    "a huge axis": (shape("trio", 2, 2**62), "shape_mismatch", "$.inputs[10].shape[1]"),
    "many axes": (shape("trio", *[1] * 1000), "shape_mismatch", "$.inputs[10].shape"),
    "no axis": (shape("trio"), "shape_mismatch", "$.inputs[10].shape"),
    "shared memory": (
        lambda r: r.inputs[0].parameters["shared_memory_region"].MergeFrom(pb.InferParameter(string_param="a")),
        "shared_memory",
        "$.inputs[0].parameters.shared_memory_region",
    ),
    "an unknown output": (lambda r: r.outputs.add(name="margin"), "tensor_unknown", "$.outputs[0].name"),
    "a doubled output": (
        lambda r: (r.outputs.add(name="sums"), r.outputs.add(name="sums")),
        "tensor_doubled",
        "$.outputs[1].name",
    ),
    "classification": (
        lambda r: r.outputs.add(name="sums").parameters["classification"].MergeFrom(pb.InferParameter(int64_param=2)),
        "extension_unknown",
        "$.outputs[0].parameters.classification",
    ),
    "a timeout that is text": (
        lambda r: r.parameters["timeout"].MergeFrom(pb.InferParameter(string_param="1")),
        "timeout_invalid",
        "$.parameters.timeout",
    ),
    "a timeout of nothing": (
        lambda r: r.parameters["timeout"].MergeFrom(pb.InferParameter(int64_param=0)),
        "timeout_invalid",
        "$.parameters.timeout",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_with_its_path_what_it_got_and_what_was_expected(stub: Any, case: str) -> None:
    change, code, path = BAD[case]
    request = raw()
    change(request)

    status, sentence, problem = refused(lambda: stub.ModelInfer(request))

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert (problem["code"], problem["path"]) == (code, path), sentence
    assert path in sentence
    assert "expected" in sentence or "not served" in sentence


def test_an_unknown_model_or_version_is_not_found(stub: Any) -> None:
    unknown, version = raw(), raw()
    unknown.model_name = "nope"
    version.model_version = "7"

    refusals = [refused(partial(stub.ModelInfer, request)) for request in (unknown, version)]

    assert [status for status, _, _ in refusals] == [grpc.StatusCode.NOT_FOUND] * 2
    assert [problem["code"] for _, _, problem in refusals] == ["model_unknown", "version_unknown"]


def test_an_inner_model_is_not_there_until_it_is_published(stub: Any) -> None:
    request = raw()
    request.model_name = f"{NAME}_inner"

    status, _, problem = refused(lambda: stub.ModelInfer(request))

    assert status == grpc.StatusCode.NOT_FOUND
    assert "publish" in problem["hint"]


@pytest.mark.parametrize("size", [1, 10, 1_000])
def test_bytes_that_are_no_message_are_refused_and_counted(server: BothProtocols, size: int) -> None:
    with grpc.insecure_channel(server.address) as channel:
        status, sentence, problem = refused(partial(bytewise(channel, INFER), b"\xff" * size))

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert problem["code"] == "protobuf_invalid"
    assert "ModelInferRequest" in sentence
    assert server.metrics.wait_for((INFER, "POST", 400))


def test_a_health_request_that_is_none_is_refused(server: BothProtocols) -> None:
    with grpc.insecure_channel(server.address) as channel:
        status, _, _ = refused(partial(bytewise(channel, "/grpc.health.v1.Health/Check"), b"\xff\xff"))

    assert status == grpc.StatusCode.INVALID_ARGUMENT


def test_a_method_that_is_not_served_says_so(server: BothProtocols) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = bytewise(channel, "/inference.GRPCInferenceService/RepositoryModelLoad")
        status, _, _ = refused(partial(call, b""))

    assert status == grpc.StatusCode.UNIMPLEMENTED


def test_a_message_beyond_the_limit_is_refused(stub: Any) -> None:
    request = raw()
    request.raw_input_contents[0] = b"\0" * 200_000

    status, _, _ = refused(lambda: stub.ModelInfer(request))

    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_message_is_refused_before_it_is_unpacked(stub: Any) -> None:
    """Unpacked it would be a thousand times the limit, of which gRPC checks the packed size only."""
    request = raw()
    request.raw_input_contents[0] = b"\0" * 100_000_000
    assert len(gzip.compress(request.raw_input_contents[0])) < 100_000

    status, _, _ = refused(lambda: stub.ModelInfer(request, compression=grpc.Compression.Gzip, timeout=WAIT_S))

    assert status == grpc.StatusCode.UNIMPLEMENTED


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), cut=st.integers(0, 600))
def test_no_bytes_make_the_server_answer_unknown(server: BothProtocols, data: bytes, cut: int) -> None:
    good = raw().SerializeToString()
    code = grpc.StatusCode.OK
    with grpc.insecure_channel(server.address) as channel:
        try:
            ask = channel.unary_unary(INFER, bytes, bytes)  # with time: a slow machine must not refuse what is good
            ask(good[:cut] + data + good[cut:], timeout=WAIT_S)
        except grpc.RpcError as error:
            code = error.code()

    assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


def test_every_status_that_a_problem_can_have_has_a_code() -> None:
    codes = {status: code_of(Problem(status, "x", "d")) for status in TITLES}

    assert grpc.StatusCode.UNKNOWN not in codes.values()
    assert grpc.StatusCode.OK not in codes.values()
    assert set(TITLES) - set(CODES) == {405, 411, 414, 431, 507}  # of HTTP only; their hundred speaks for them


def test_a_refusal_says_when_to_come_back() -> None:
    problem = Problem(503, "refused_queue_full", "full", retry_after_s=0.25)

    assert code_of(problem) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(trailers_of(problem))[PUSHBACK_KEY] == "250"


def test_what_a_client_repeats_at_length_does_not_exceed_the_trailers() -> None:
    problem = Problem(400, "x", "é" * 10_000)

    assert len(message_of(problem).encode()) <= 2_048
    assert dict(trailers_of(problem)) == {}
    assert PROBLEM_BYTES < 10_000


EMPTY_INPUT, MAP_ENTRY, GROUP = b"\x2a\x00", b"\x22\x06\x0a\x04", b"\x0b"


@pytest.mark.parametrize(
    "body",
    [
        EMPTY_INPUT * 45_000,
        b"".join(MAP_ENTRY + b"%04x" % number for number in range(11_000)),
        b"\x2a\x80\xfa\x05" + b"".join(MAP_ENTRY + b"%04x" % number for number in range(12_000)),
        b"\x2a\x80\xfa\x05" + b"\x18\x01" * 48_000,
        GROUP * 90_000,
    ],
    ids=["inputs", "parameters", "parameters of an input", "sizes of a shape", "groups"],
)
def test_a_message_of_very_many_fields_is_refused_before_it_is_parsed(server: BothProtocols, body: bytes) -> None:
    with grpc.insecure_channel(server.address) as channel:
        status, sentence, _ = refused(partial(bytewise(channel, INFER), body))

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert "too many fields" in sentence


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=100))
def test_looking_for_fields_ends_for_any_bytes(data: bytes) -> None:
    padded = data + b"\0" * (SMALL_BYTES + 1)

    with pytest.raises(Problem, match="too many fields"):
        check_fields(EMPTY_INPUT * MOST + padded)
    try:
        check_fields(padded)
    except Problem as problem:
        code = problem.stable_code
    else:
        code = "protobuf_invalid"
    assert code == "protobuf_invalid"


def test_a_large_tensor_is_few_fields() -> None:
    request = raw()
    request.raw_input_contents[0] = b"\xff" * 10_000_000

    check_fields(request.SerializeToString())

    assert request.ByteSize() > SMALL_BYTES
