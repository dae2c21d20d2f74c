"""Far ends for the remote lane: a slipway server as a process of its own, and a server that is not slipway.

`Foreign` speaks both protocols as Triton does: it calls itself otherwise, has scalar columns of shape [-1, 1], and a
margin as its only output. What it answers can be spoilt by a test.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_service import WAIT_S, both_protocols

from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.open_inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

METADATA = {
    "name": "far",
    "inputs": [{"name": name, "datatype": "FP32", "shape": [-1, 1]} for name in ("tenure_days", "mean_charge")],
    "outputs": [{"name": "margin", "datatype": "FP32", "shape": [-1, 1]}],
}


class FarProcess:
    """A slipway server that can be killed."""

    def __init__(self, folder: Path, ports: tuple[int, int] = (0, 0)) -> None:
        command = [sys.executable, __file__, str(folder), *map(str, ports)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        self.rest, self.grpc = line.split()
        self.ports = (int(self.rest.rpartition(":")[2]), int(self.grpc.rpartition(":")[2]))
        """Of REST and gRPC."""

    def url(self, scheme: str, model: str) -> str:
        """`remote = …` for one of its models."""
        return f"{scheme}://{self.grpc if scheme == 'grpc' else self.rest}/{model}"

    def kill(self) -> None:
        """SIGKILL: nobody closes anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def close(self) -> None:
        """End it, if it is still there."""
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate(timeout=WAIT_S)


class Foreign:
    """A server that is not slipway, over both protocols; `spoil` changes what it answers."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = json.loads(json.dumps(METADATA))
        self.spoil: Callable[[bytes], bytes] = lambda raw: raw
        self.datatype = "FP32"
        self.shapes: list[list[int]] = []
        """Of the inputs of the last call."""
        self.asked: list[dict[str, str]] = []
        """Headers, or metadata, of each call."""
        self.rows_lost = 0
        self.is_overloaded = False
        self.is_slow = False
        """REST: a byte at a time."""
        self.patience = threading.Event()
        self.patience.set()
        self._web = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._web.daemon_threads = True
        self._serving = threading.Thread(target=self._web.serve_forever)
        self._serving.start()
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_GRPCInferenceServiceServicer_to_server(_Servicer(self), self._server)  # type: ignore[no-untyped-call]  # generated
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def url(self, scheme: str) -> str:
        """`remote = …` for its model."""
        return f"{scheme}://127.0.0.1:{self._port if scheme == 'grpc' else self._web.server_port}/far"

    def margin(self, columns: dict[str, bytes]) -> tuple[int, bytes]:
        """Rows, and the output's bytes: twice the one column and once the other."""
        self.patience.wait(WAIT_S)
        tenure, charge = (np.frombuffer(columns[name], "<f4") for name in ("tenure_days", "mean_charge"))
        margin = (tenure * 2 + charge)[: len(tenure) - self.rows_lost]
        return len(margin), self.spoil(margin.astype("<f4").tobytes())

    def close(self) -> None:
        """Stop both."""
        self.patience.set()
        self._web.shutdown()
        self._serving.join(WAIT_S)
        self._web.server_close()
        self._server.stop(None).wait(WAIT_S)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        far = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server = {"name": "other", "version": "1", "extensions": ["binary_tensor_data", "statistics"]}
                self._send(json.dumps(server if self.path == "/v2" else far.metadata).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                far.asked.append({name.lower(): value for name, value in self.headers.items()})
                length = int(self.headers["inference-header-content-length"])
                columns, tail = {}, body[length:]
                if far.is_overloaded:
                    self._send(b'{"error": "come back later"}', status=503)
                    return
                far.shapes = [given["shape"] for given in json.loads(body[:length])["inputs"]]
                for given in json.loads(body[:length])["inputs"]:
                    size = given["parameters"]["binary_data_size"]
                    columns[given["name"]], tail = tail[:size], tail[size:]
                rows, data = far.margin(columns)
                output = {
                    "name": "margin",
                    "datatype": far.datatype,
                    "shape": [rows, 1],
                    "parameters": {"binary_data_size": len(data)},
                }
                head = json.dumps({"model_name": "far", "model_version": "1", "outputs": [output]}).encode()
                self._send(head + data, len(head))

            def _send(self, content: bytes, length: int | None = None, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                if length is not None:
                    self.send_header("inference-header-content-length", str(length))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # the client has lost its patience
                    for byte in content if far.is_slow else ():
                        self.wfile.write(bytes([byte]))
                        threading.Event().wait(0.05)
                    self.wfile.write(b"" if far.is_slow else content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


class _Servicer(GRPCInferenceServiceServicer):
    def __init__(self, far: Foreign) -> None:
        self._far = far

    def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:  # noqa: N802  # the service's own name
        return pb.ServerMetadataResponse(name="other", version="1", extensions=["statistics"])

    def ModelMetadata(self, request: Any, context: Any) -> pb.ModelMetadataResponse:  # noqa: N802  # the service's own name
        return pb.ModelMetadataResponse(**self._far.metadata)

    def ModelInfer(self, request: Any, context: Any) -> pb.ModelInferResponse:  # noqa: N802  # the service's own name
        self._far.asked.append({str(name): str(value) for name, value in context.invocation_metadata()})
        if self._far.is_overloaded:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
        self._far.shapes = [list(given.shape) for given in request.inputs]
        names = [given.name for given in request.inputs]
        rows, data = self._far.margin(dict(zip(names, request.raw_input_contents, strict=True)))
        response = pb.ModelInferResponse(model_name="far", raw_output_contents=[data])
        response.outputs.add(name="margin", datatype=self._far.datatype, shape=[rows, 1])
        return response


@contextlib.contextmanager
def far_process(folder: Path, ports: tuple[int, int] = (0, 0)) -> Iterator[FarProcess]:
    """A slipway server in a process of its own, on ports of REST and gRPC."""
    far = FarProcess(folder, ports)
    try:
        yield far
    finally:
        far.close()


@contextlib.contextmanager
def foreign() -> Iterator[Foreign]:
    """A server that is not slipway."""
    far = Foreign()
    try:
        yield far
    finally:
        far.close()


def main() -> None:
    """Serve a folder until standard input ends."""
    folder, rest, port = sys.argv[1:]
    with both_protocols(Path(folder), rest_port=int(rest), grpc_port=int(port)) as served:
        sys.stdout.write(f"{served.rest} {served.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
