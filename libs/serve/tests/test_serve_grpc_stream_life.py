"""How streams over gRPC end: deadlines, slow and lost clients, drains; in the end every generator is closed."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_service import BothProtocols, both_protocols, stub_of, wait_until
from grpc_stream_service import STAGES, WAIT_S, Conversation, Stage, is_final, problem_in, prompt, row, talking, word
from grpc_stream_service import write_chatty as write_service

from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.server import GrpcServer, start_grpc
from slipway_serve.streams import BUFFER, StreamStatistics

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
IDLE_S = 0.5
SOON_S = 10.0
"""Long before the deadline, which would close a generator too."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothProtocols]:
    with both_protocols(write_service(tmp_path_factory.mktemp("lively"), "grpc_lively_service")) as running:
        yield running
        for stage in STAGES.values():
            stage.go_on.set()


@pytest.fixture
def stub(server: BothProtocols) -> Iterator[Any]:
    with stub_of(server.address) as made:
        yield made


@contextlib.contextmanager
def another(server: BothProtocols, idle_s: float) -> Iterator[GrpcServer]:
    """A second gRPC server over the same engines, of less patience."""

    async def start() -> GrpcServer:
        limits = server.state.limits
        return await start_grpc(server.engines, server.state, host="127.0.0.1", port=0, limits=limits, idle_s=idle_s)

    made: GrpcServer = server.call(start)
    yield made
    server.call(lambda: made.drain(0))


def statistics(server: BothProtocols) -> StreamStatistics:
    found: StreamStatistics = server.engines[0].stream_lane("chat").statistics()
    return found


def gone(server: BothProtocols) -> int:
    """How many requests of streams had no client in the end."""
    return server.metrics.requests.count((STREAM, "POST", 499))


def is_still(stub: Any, stage: Stage) -> bool:
    """Whether the generator made nothing while the server answered others."""
    produced = stage.produced
    for _ in range(20):
        assert stub.ServerLive(pb.ServerLiveRequest()).live
    return stage.produced == produced


def code_of(conversation: Conversation) -> grpc.StatusCode:
    """How the whole call ended."""
    with pytest.raises(grpc.RpcError) as raised:
        list(conversation.call)
    return raised.value.code()


def test_a_request_s_own_deadline_ends_its_stream_in_band(server: BothProtocols, stub: Any) -> None:
    with talking(stub) as conversation:
        first, late = conversation.answer_to(prompt("too late", "waits", timeout_us=300_000))
        after = conversation.answer_to(row(1.0))
    STAGES["too late"].go_on.set()

    assert word(first) == "too"
    assert (problem_in(late)["status"], problem_in(late)["code"]) == (504, "deadline_exceeded")
    assert is_final(after[0])
    assert STAGES["too late"].closed.wait(WAIT_S)
    assert server.metrics.wait_for((STREAM, "POST", 504))


def test_the_call_s_deadline_ends_it_and_closes_the_generator(server: BothProtocols, stub: Any) -> None:
    with talking(stub, timeout_s=0.5) as conversation:
        conversation.ask(prompt("out of time", "endlessly"))
        code = code_of(conversation)

    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert STAGES["out of time"].closed.wait(WAIT_S)
    wait_until(lambda: statistics(server).open == 0)


def test_a_generator_that_yields_nothing_in_time_is_stalled(server: BothProtocols) -> None:
    with another(server, IDLE_S) as hasty, stub_of(f"127.0.0.1:{hasty.port}") as stub, talking(stub) as conversation:
        (stalled,) = conversation.answer_to(prompt("stuck", "hangs"))
        after = conversation.answer_to(prompt("move on"))
    STAGES["stuck"].go_on.set()

    assert (problem_in(stalled)["status"], problem_in(stalled)["code"]) == (504, "stream_stalled")
    assert [word(item) for item in after[:-1]] == ["move", "on"]
    assert STAGES["stuck"].closed.wait(WAIT_S)


def test_a_client_that_does_not_read_pauses_the_generator_until_it_does(server: BothProtocols, stub: Any) -> None:
    stage = STAGES["slowly"]

    with talking(stub) as conversation:
        conversation.ask(prompt("slowly", "endlessly"))
        wait_until(lambda: statistics(server).paused == 1 and is_still(stub, stage))
        paused_at = stage.produced
        read = [conversation.next() for _ in range(paused_at + BUFFER)]

    assert paused_at < 2_000  # 40 MB: what gRPC and the kernel take for a client, and a little more
    assert len(read) == paused_at + BUFFER
    assert stage.closed.wait(WAIT_S)


def test_a_client_that_never_reads_is_let_go_and_the_generator_closed(server: BothProtocols) -> None:
    left = gone(server)

    with another(server, IDLE_S) as hasty, stub_of(f"127.0.0.1:{hasty.port}") as stub:
        with talking(stub, None) as conversation:
            conversation.ask(prompt("unread", "endlessly"), prompt("beside it", "endlessly"))
            closed = [STAGES[text].closed.wait(WAIT_S) for text in ("unread", "beside it")]
            wait_until(lambda: gone(server) == left + 2)
            code = code_of(conversation)
        with talking(stub) as another_call:
            answered = another_call.answer_to(prompt("still here"))

    assert closed == [True, True]
    assert code == grpc.StatusCode.CANCELLED
    assert [word(item) for item in answered[:-1]] == ["still", "here"]
    wait_until(lambda: statistics(server).open == 0)


def test_a_client_that_cancels_closes_its_generators(server: BothProtocols, stub: Any) -> None:
    left = gone(server)

    with talking(stub, None) as conversation:
        conversation.ask(prompt("leaver", "endlessly"))
        first = conversation.next()
        conversation.ask(prompt("leaver who waits", "waits"))
        while conversation.next().infer_response.id != "leaver who waits":
            pass
        conversation.call.cancel()
        closed = STAGES["leaver"].closed.wait(SOON_S)
        wait_until(lambda: gone(server) == left + 2)
        STAGES["leaver who waits"].go_on.set()  # it is closed where it yields

    assert not is_final(first)
    assert closed
    assert STAGES["leaver who waits"].closed.wait(WAIT_S)
    assert STAGES["leaver who waits"].produced == 2
    wait_until(lambda: statistics(server).open == 0 and server.metrics.active.value == 0)


def test_a_client_whose_connection_is_lost_closes_its_generator(server: BothProtocols) -> None:
    with stub_of(server.address) as stub:
        conversation = Conversation(stub, None)
        conversation.ask(prompt("lost", "endlessly"))
        first = conversation.next()
    conversation.close()

    assert not is_final(first)
    assert STAGES["lost"].closed.wait(SOON_S)


def test_a_drain_lets_open_streams_end_and_then_ends_the_call(tmp_path: Path) -> None:
    folder = write_service(tmp_path, "grpc_draining_service")
    with both_protocols(folder) as server, stub_of(server.address) as stub, talking(stub) as conversation:
        conversation.ask(prompt("last words", "waits"))
        first = conversation.next()
        server.call(server.server.leave)
        draining = threading.Thread(target=lambda: server.call(lambda: server.server.drain(WAIT_S)))
        draining.start()
        STAGES["last words"].go_on.set()
        rest = [conversation.next() for _ in range(2)]
        code = code_of(conversation)
        draining.join(WAIT_S)

    assert [word(item) for item in (first, rest[0])] == ["last", "words"]
    assert is_final(rest[1])
    assert code == grpc.StatusCode.UNAVAILABLE
    assert not draining.is_alive()


def test_a_drain_that_is_over_closes_what_has_not_ended(tmp_path: Path) -> None:
    folder = write_service(tmp_path, "grpc_drained_service")
    with both_protocols(folder) as server, stub_of(server.address) as stub, talking(stub) as conversation:
        conversation.ask(prompt("on and on", "endlessly"))
        first = conversation.next()
        server.call(lambda: server.server.drain(0.1))
        closed = STAGES["on and on"].closed.wait(WAIT_S)
        code = code_of(conversation)

    assert not is_final(first)
    assert closed
    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
