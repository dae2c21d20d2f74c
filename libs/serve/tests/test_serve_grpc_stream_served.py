"""Streams over gRPC as they are deployed: a real server, Triton's client, a client that goes, and SIGTERM."""

import json
import os
import queue
import re
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]  # the package has no types
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serve_folders import train
from serve_process import Served, serving

WAIT_S = 30.0
TOLD = '''"""Says a word, waits for a pipe, says another."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from slipway_serve import Service, Weights


class Prompt(Struct, frozen=True):
    """Where to wait: a folder with the pipes `go_on` and `closed`, or no path at all."""

    folder: str


class Token(Struct, frozen=True):
    """A word."""

    word: str


service = Service("told")
tell = service.stream("tell", Prompt, Token, path="/tell")


@tell.compute
def words(weights: Weights, prompt: Prompt) -> Iterator[Token]:
    """Two words, or words until it is closed."""
    end = b"closed"
    try:
        yield Token("one")
        if prompt.folder.startswith("/"):
            more = Path(prompt.folder, "go_on").read_bytes()
            while more == b"for ever":
                yield Token("two")
        yield Token("two")
        end = b"ended"
    finally:
        if prompt.folder.startswith("/"):
            Path(prompt.folder, "closed").write_bytes(end)
'''
GRPC: dict[str, object] = {"grpc": True, "grpc_port": 0}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir()
    (folder / "src" / "grpc_told_service.py").write_text(TOLD)
    (folder / "slipway.toml").write_text(
        'entry = "grpc_told_service:service"\n\n[bundle.models.tell]\nfile = "model/model.ubj"\nformat = "xgboost"\n'
    )
    return folder


def pipes(folder: Path) -> Path:
    folder.mkdir()
    for name in ("go_on", "closed"):
        os.mkfifo(folder / name)
    return folder


def address_of(served: Served) -> str:
    found = re.search(r"grpc +(\S+)", served.said())
    assert found is not None, served.said()
    return found[1]


class Told:
    """Triton's client with one stream open; its answers in a queue."""

    def __init__(self, address: str) -> None:
        self.client = triton.InferenceServerClient(address)
        self.answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.client.start_stream(callback=lambda result, error: self.answers.put((result, error)))

    def ask(self, folder: str) -> None:
        given = triton.InferInput("folder", [1], "BYTES")
        given.set_data_from_numpy(np.array([folder.encode()], np.object_))
        self.client.async_stream_infer("tell", [given], request_id=folder, enable_empty_final_response=True)

    def word(self) -> str | None:
        """The next word; None at the end of a request."""
        result, error = self.answers.get(timeout=WAIT_S)
        assert error is None, error
        words = result.as_numpy("word")
        assert (words is None) == result.get_response().parameters["triton_final_response"].bool_param
        return None if words is None else str(words[0].decode())


def test_a_client_reads_a_stream_and_one_that_goes_closes_its_generator(told: Path, tmp_path: Path) -> None:
    folder = pipes(tmp_path / "pipes")
    with serving(told, store=tmp_path / "store", flags=GRPC) as served:
        client = Told(address_of(served))
        client.ask("nowhere")
        whole = [client.word() for _ in range(3)]
        client.ask(str(folder))
        first = client.word()
        client.client.stop_stream(cancel_requests=True)
        (folder / "go_on").write_bytes(b"for ever")
        closed = (folder / "closed").read_bytes()
        client.client.close()

    assert (whole, first) == (["one", "two", None], "one")
    assert closed == b"closed"


def test_a_server_that_is_told_to_stop_ends_its_streams_over_both_protocols(told: Path, tmp_path: Path) -> None:
    over_grpc, over_http = pipes(tmp_path / "grpc"), pipes(tmp_path / "http")
    body = {"folder": str(over_http)}
    with serving(told, store=tmp_path / "store", flags=GRPC) as served, served.client() as http:
        client = Told(address_of(served))
        client.ask(str(over_grpc))
        first = client.word()
        with http.stream("POST", "/tell", json=body, headers={"accept": "application/x-ndjson"}) as answer:
            lines = answer.iter_lines()
            items = [json.loads(next(lines))]
            with grpc.insecure_channel(address_of(served)) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)  # its methods have no types
                health = stub.Watch(health_pb2.HealthCheckRequest())
                next(health)
                served.process.send_signal(signal.SIGTERM)
                status = next(health).status
                for folder in (over_grpc, over_http):
                    (folder / "go_on").write_bytes(b"go")
                    (folder / "closed").read_bytes()
                health.cancel()
            items += map(json.loads, lines)
        rest = [client.word() for _ in range(2)]
        _, ended = client.answers.get(timeout=WAIT_S)
        client.client.stop_stream()
        client.client.close()
        exit_status = served.process.wait(WAIT_S)

    assert status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert items == [{"word": "one"}, {"word": "two"}]
    assert (first, rest) == ("one", ["two", None])
    assert "StatusCode.UNAVAILABLE" in str(ended)
    assert exit_status == 0
