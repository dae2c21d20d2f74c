"""A far end over REST: binary tensors through pooled HTTP connections.

It judges no tensor (remote.py does). The invariant: a call ends by its timeout, or at most one network read later, and
an answer is never larger than the bound. Sources: KServe `inference_rest.md`; Triton `extension_binary_data.md`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import httpx
import msgspec
from msgspec import Struct

from slipway_serve.far_end import OUTPUTS, SENTENCE, Address, FarModel, RemoteFailed, RemoteUnavailable, Sent
from slipway_serve.protocol import EXTENSIONS, HEADER_LENGTH, RequestInput
from slipway_serve.tensor_data import to_binary
from slipway_serve.tensors import Given, given_tensors

CONNECTIONS: Final = 64
OVERLOADED: Final = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses that say: later, or elsewhere."""

Kind = TypeVar("Kind", bound=Struct)


class _Server(Struct, frozen=True):
    name: str
    extensions: tuple[str, ...] = ()


class _Answer(Struct, frozen=True):
    outputs: tuple[RequestInput, ...]


class _Error(Struct, frozen=True):
    error: str = ""


class RestEnd:
    """One server over HTTP/1.1.

    Args:
        address: which, and which model.
        answer_bytes: the largest answer that is read.
    """

    def __init__(self, address: Address, answer_bytes: int) -> None:
        self._address = address
        self._answer_bytes = answer_bytes
        self._model = f"/v2/models/{address.model}"
        self._client = httpx.Client(
            base_url=f"{address.scheme}://{address.host}",
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            trust_env=False,  # a proxy that the environment names is not for calls inside a cluster
        )

    def server_name(self, timeout_s: float) -> str:
        """What the server calls itself; raises RemoteFailed when it takes no binary tensors."""
        content, _ = self._ask("GET", "/v2", timeout_s)
        server = self._decoded(content, _Server)
        if not set(EXTENSIONS) <= set(server.extensions):
            missing = f"extensions {sorted(server.extensions)}, expected {', '.join(EXTENSIONS)} among them"
            raise RemoteFailed(f"{self._address.url} has {missing}", hint="call it over gRPC: `grpc://…`")
        return server.name

    def describe(self, timeout_s: float) -> FarModel:
        """The metadata of the model."""
        content, _ = self._ask("GET", self._model, timeout_s)
        return self._decoded(content, FarModel)

    def infer(
        self, inputs: Sequence[Sent], outputs: Sequence[str], timeout_s: float, headers: Mapping[str, str]
    ) -> list[Given]:
        """One call: the outputs as they were answered."""
        members: list[dict[str, object]] = []
        data: list[bytes] = []
        for spec, array in inputs:
            data.append(to_binary(array, spec))
            parameters = {"binary_data_size": len(data[-1])}
            members.append(
                {"name": spec.name, "datatype": spec.datatype, "shape": array.shape, "parameters": parameters}
            )
        request = {
            "inputs": members,
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            "parameters": {"timeout": max(1, int(timeout_s * 1_000_000))},
        }
        head = msgspec.json.encode(request)
        own = {HEADER_LENGTH.decode(): str(len(head)), "content-type": "application/octet-stream"}
        body = b"".join((head, *data))
        content, length = self._ask("POST", f"{self._model}/infer", timeout_s, body, {**headers, **own})
        answer = self._decoded(content[:length], _Answer)
        return list(given_tensors(answer.outputs, memoryview(content)[length:], OUTPUTS))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(
        self, method: str, path: str, timeout_s: float, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[bytes, int]:
        """The body of a good answer, and the length of the JSON in it."""
        ends = time.monotonic() + timeout_s
        request = self._client.build_request(method, path, content=body, headers=headers, timeout=timeout_s)
        try:
            response = self._client.send(request, stream=True)
            try:
                content = self._read(response, ends)
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise RemoteUnavailable(f"{self._address.url} did not answer in {timeout_s:.3f} s") from error
        except httpx.TransportError as error:
            raise RemoteUnavailable(
                f"{self._address.url} cannot be reached: {error or type(error).__name__}"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # RuntimeError: the client is closed
            raise RemoteFailed(f"{self._address.url} cannot be called: {error}") from error
        if response.status_code != 200:
            self._raise(response.status_code, content)
        length = response.headers.get(HEADER_LENGTH.decode(), "")
        return content, int(length) if length.isdigit() and len(length) < 20 else len(content)

    def _read(self, response: httpx.Response, ends: float) -> bytes:
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_raw():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._answer_bytes:
                raise RemoteFailed(f"{self._address.url} answered more than {self._answer_bytes} bytes")
            if time.monotonic() > ends:
                raise RemoteUnavailable(f"{self._address.url} was still answering when its time was over")
        return b"".join(chunks)

    def _raise(self, status: int, content: bytes) -> None:
        try:
            said = msgspec.json.decode(content, type=_Error).error
        except msgspec.DecodeError:
            said = content.decode(errors="replace")
        sentence = f"{self._address.url} answered {status}: {said[:SENTENCE] or 'no words'}"
        raise RemoteUnavailable(sentence) if status in OVERLOADED else RemoteFailed(sentence)

    def _decoded(self, content: bytes, kind: type[Kind]) -> Kind:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise RemoteFailed(f"{self._address.url} does not speak the protocol: {error}") from error
