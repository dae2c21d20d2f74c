"""A gRPC server's deadlines, cancellations, refusals under load, drain and shared port."""

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import msgspec
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_service import WAIT_S, BothProtocols, Kept, both_protocols, stub_of, wait_until
from serve_gate import GATE, write_gated

from slipway_runtime.listeners import AddressError, PortInUseError
from slipway_serve.config import LimitsConfig
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.calls import STREAM_DEPTH, Context, Measured
from slipway_serve.oip.ports import reserve_port
from slipway_serve.oip.server import start_grpc
from slipway_serve.oip.status import PROBLEM_KEY, PUSHBACK_KEY
from slipway_serve.routes import ServerState

pytestmark = pytest.mark.alone  # how long something takes is judged here

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
NARROW = "max_rows = 1\nqueue_rows = 1\nbatching = false\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BothProtocols]:
    with both_protocols(write_gated(tmp_path)) as running:
        try:
            yield running
        finally:
            GATE.open()


@pytest.fixture
def stub(server: BothProtocols) -> Iterator[Any]:
    with stub_of(server.address) as made:
        yield made


def row(x: float = 1.0, **parameters: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="gated")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(x)
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


def doubled(response: pb.ModelInferResponse) -> float:
    return response.outputs[0].contents.fp64_contents[0]


def shut_with_one_inside(stub: Any) -> Any:
    """The future of a call that is being computed and held back."""
    GATE.shut()
    held = stub.ModelInfer.future(row(), timeout=WAIT_S)
    assert GATE.entered.wait(WAIT_S)
    return held


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        call.result(WAIT_S)
    return raised.value.code()


def test_the_client_s_deadline_is_the_row_s(server: BothProtocols, stub: Any) -> None:
    held = shut_with_one_inside(stub)

    late = stub.ModelInfer.future(row(), timeout=0.2)

    assert code_of(late) == grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.metrics.wait_for((INFER, "POST", 504))
    assert server.queued("gated") == 0
    GATE.open()
    assert doubled(held.result(WAIT_S)) == 2.0


@pytest.mark.parametrize(("timeout_s", "at_most_s"), [(20.0, 20.0), (None, 2.0), (10_000.0, 60.0)])
def test_a_row_waits_as_long_as_its_client_or_its_class_and_never_longer_than_the_limit(
    server: BothProtocols, stub: Any, timeout_s: float | None, at_most_s: float
) -> None:
    held = shut_with_one_inside(stub)
    waiting = stub.ModelInfer.future(row(), timeout=timeout_s)
    wait_until(lambda: server.queued("gated") == 1)

    deadline = server.statistics("gated").queue.earliest_deadline

    GATE.open()
    assert deadline is not None
    assert deadline - time.monotonic() == pytest.approx(at_most_s, abs=1.9)  # gRPC rounds, and a busy machine is late
    assert [doubled(call.result(WAIT_S)) for call in (held, waiting)] == [2.0, 2.0]


def test_the_timeout_parameter_is_a_deadline_too(server: BothProtocols, stub: Any) -> None:
    held = shut_with_one_inside(stub)

    with pytest.raises(grpc.RpcError) as late:
        stub.ModelInfer(row(timeout=100_000), timeout=WAIT_S)

    error: Any = late.value
    problem = msgspec.json.decode(dict(error.trailing_metadata())[PROBLEM_KEY])
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert problem["code"] == "deadline_exceeded"
    GATE.open()
    assert doubled(held.result(WAIT_S)) == 2.0


def test_a_cancelled_call_takes_its_rows_out_of_the_queue(server: BothProtocols, stub: Any) -> None:
    held = shut_with_one_inside(stub)
    waiting = stub.ModelInfer.future(row(), timeout=WAIT_S)
    wait_until(lambda: server.queued("gated") == 1)

    waiting.cancel()

    assert server.metrics.wait_for((INFER, "POST", 499))
    assert server.queued("gated") == 0
    GATE.open()
    assert doubled(held.result(WAIT_S)) == 2.0


def test_a_client_that_breaks_its_stream_takes_its_rows_out_of_the_queue(server: BothProtocols, stub: Any) -> None:
    held = shut_with_one_inside(stub)
    answers = stub.ModelStreamInfer(_forever(row()))
    wait_until(lambda: server.queued("gated") == STREAM_DEPTH)
    for _ in range(20):  # time enough to read more, if it did
        assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert server.queued("gated") == STREAM_DEPTH

    answers.cancel()

    assert server.metrics.wait_for((STREAM, "POST", 499))
    wait_until(lambda: server.queued("gated") == 0)
    GATE.open()
    assert doubled(held.result(WAIT_S)) == 2.0


def test_a_full_queue_refuses_with_the_time_to_come_back(tmp_path: Path) -> None:
    with both_protocols(write_gated(tmp_path, NARROW)) as server, stub_of(server.address) as stub:
        try:
            held = shut_with_one_inside(stub)
            second = stub.ModelInfer.future(row(), timeout=WAIT_S)
            wait_until(lambda: server.queued("gated") == 1)

            with pytest.raises(grpc.RpcError) as full:
                stub.ModelInfer(row(), timeout=WAIT_S)
        finally:
            GATE.open()
        answers = [doubled(call.result(WAIT_S)) for call in (held, second)]

    error: Any = full.value
    trailers = dict(error.trailing_metadata())
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(trailers[PUSHBACK_KEY]) >= 1
    assert msgspec.json.decode(trailers[PROBLEM_KEY])["code"] == "refused_queue_full"
    assert answers == [2.0, 2.0]


@pytest.mark.parametrize(("left_s", "status"), [(None, 499), (5.0, 499), (-0.001, 504)])
def test_a_call_that_grpc_ends_counts_as_late_or_as_left(left_s: float | None, status: int) -> None:
    """gRPC cancels a call in both cases; which came first, it or our own timer, is chance."""

    class Ended:
        def time_remaining(self) -> float | None:
            return left_s

    async def end() -> Kept:
        metrics = Kept()
        measured = Measured(INFER, ServerState(LimitsConfig(), metrics))
        work: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def worked() -> bytes:
            return await work

        call = asyncio.ensure_future(measured.run(worked(), cast("Context", Ended())))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert work.cancelled()
        return metrics

    metrics = asyncio.run(end())

    assert metrics.requests == [(INFER, "POST", status)]
    assert metrics.active.value == 0


def test_a_failing_model_is_internal_and_keeps_its_secrets(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        stub.ModelInfer(row(-1.0))

    error: Any = failed.value
    problem = msgspec.json.decode(dict(error.trailing_metadata())[PROBLEM_KEY])
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert problem["code"] == "model_failed"
    assert problem["instance"]


def test_a_drain_says_not_serving_finishes_what_runs_and_takes_no_more(server: BothProtocols, stub: Any) -> None:
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its methods have no types
        watched: queue.Queue[int] = queue.Queue()
        watching = [health.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(2)]
        watchers = [threading.Thread(target=_watch, args=(watch, watched)) for watch in watching]
        for watcher in watchers:
            watcher.start()
        assert [watched.get(timeout=WAIT_S) for _ in watchers] == [health_pb2.HealthCheckResponse.SERVING] * 2
        held = shut_with_one_inside(stub)

        server.call(server.server.leave)
        told = [watched.get(timeout=WAIT_S) for _ in watchers]
        status = health.Check(health_pb2.HealthCheckRequest()).status
        draining = threading.Thread(target=lambda: server.call(lambda: server.server.drain(WAIT_S)))
        draining.start()
        GATE.open()
        answer = doubled(held.result(WAIT_S))
        draining.join(WAIT_S)
        for watcher in watchers:
            watcher.join(WAIT_S)

        assert told == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2
        assert status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert answer == 2.0
        assert not draining.is_alive()
        assert code_of(stub.ModelInfer.future(row())) == grpc.StatusCode.UNAVAILABLE


def test_a_drain_answers_what_a_stream_has_asked_and_ends_it(server: BothProtocols, stub: Any) -> None:
    GATE.shut()
    answers = stub.ModelStreamInfer(_then_wait(row(1.0), row(2.0)))
    assert GATE.entered.wait(WAIT_S)
    wait_until(lambda: server.queued("gated") == 1)

    server.call(server.server.leave)
    GATE.open()
    got = [doubled(next(answers).infer_response) for _ in range(2)]
    with pytest.raises(grpc.RpcError) as ended:
        next(answers)

    assert got == [2.0, 4.0]
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    server.call(lambda: server.server.drain(WAIT_S))


def test_a_draining_server_is_not_ready(server: BothProtocols, stub: Any) -> None:
    server.state.is_draining = True

    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="gated")).ready
    assert stub.ServerLive(pb.ServerLiveRequest()).live


def test_workers_share_a_reserved_port(server: BothProtocols) -> None:
    with contextlib.closing(reserve_port("127.0.0.1", 0)) as reserved:

        async def two() -> tuple[Any, Any]:
            state, limits = server.state, server.state.limits
            made = [
                await start_grpc(server.engines, state, host="127.0.0.1", port=reserved.port, limits=limits)
                for _ in range(2)
            ]
            return made[0], made[1]

        first, second = server.call(two)
        answered = _answers(reserved.port)
        server.call(lambda: first.drain(0))
        answered_by_the_other = _answers(reserved.port)
        server.call(lambda: second.drain(0))

        assert (first.port, second.port) == (reserved.port, reserved.port)
        assert (answered, answered_by_the_other) == (2.0, 2.0)


def test_a_port_that_is_taken_is_refused_in_words(server: BothProtocols) -> None:
    with contextlib.closing(reserve_port("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as plain:
        for port in (other.port, plain.getsockname()[1], server.server.port):
            with pytest.raises(PortInUseError, match=f"port {port} is in use"):
                reserve_port("127.0.0.1", port)

        async def bind() -> None:
            limits = server.state.limits
            port = plain.getsockname()[1]
            await start_grpc(server.engines, server.state, host="127.0.0.1", port=port, limits=limits)

        with pytest.raises(PortInUseError, match="gRPC cannot listen on"):
            server.call(bind)


def test_a_host_that_is_not_ours_is_refused_in_words() -> None:
    with pytest.raises(AddressError, match="cannot be used for gRPC"):
        reserve_port("host.invalid", 0)


def _answers(port: int) -> float:
    with stub_of(f"127.0.0.1:{port}") as stub:
        return doubled(stub.ModelInfer(row(), timeout=WAIT_S, wait_for_ready=True))


def _watch(watch: Any, told: "queue.Queue[int]") -> None:
    for answer in watch:
        told.put(answer.status)


def _forever(request: pb.ModelInferRequest) -> Iterator[pb.ModelInferRequest]:
    while True:
        yield request


def _then_wait(*requests: pb.ModelInferRequest) -> Iterator[pb.ModelInferRequest]:
    yield from requests
    threading.Event().wait(WAIT_S)
