"""A service of stream models and an ordinary one, and a client that talks to it over one gRPC stream."""

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from serve_folders import train

from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.messages import FINAL

WAIT_S = 30.0
PLACES = 2

CHATTY = '''"""Streams over gRPC."""

from collections.abc import Iterator
from typing import Annotated

import grpc_stream_service
import numpy as np
from msgspec import Meta, Struct
from slipway_serve import F32, Arrays, Service, Shape, Weights


class Prompt(Struct, frozen=True):
    """What to say, and how."""

    text: Annotated[str, Meta(max_length=100)]
    way: str
    tone: "Tone"

    def __post_init__(self) -> None:
        if self.text == "unspeakable":
            raise ValueError("not that word")


class Tone(Struct, frozen=True):
    """Nested: `tone.pitch`."""

    pitch: Annotated[float, Meta(ge=0)]
    rest: float | None


class Token(Struct, frozen=True, eq=False):
    """One item."""

    word: Annotated[str, Meta(max_length=100_000)]
    place: int
    sound: Annotated[F32, Shape(2)]
    is_silent: bool


class Loose(Struct, frozen=True):
    """No row of tensors: a default."""

    text: str = ""


class Row(Struct, frozen=True):
    x: float


service = Service("PACKAGE")
chat = service.stream("chat", Prompt, Token, path="/chat")
hidden = service.stream("hidden", Prompt, Token)
loose = service.stream("loose", Loose, Loose, path="/loose")
double = service.model("double", Row, Row, path="/double", slo="interactive")


@chat.compute
@hidden.compute
def decode(weights: Weights, prompt: Prompt) -> Iterator[Token]:
    """The words of the prompt, in the way that it asks for."""
    stage = grpc_stream_service.STAGES[prompt.text]
    sound = np.array([prompt.tone.pitch, 0.5], np.float32)
    place = 0
    try:
        match prompt.way:
            case "fails at once":
                raise ValueError("secret of a customer")
            case "hangs":
                stage.go_on.wait(grpc_stream_service.WAIT_S)
            case "endlessly":
                while True:
                    stage.produced += 1
                    yield Token("x" * 20_000, 0, sound, False)
        for place, word in enumerate(prompt.text.split()):
            stage.produced += 1
            yield Token(word, place, sound, prompt.tone.rest is not None)
            if prompt.way == "waits":
                stage.go_on.wait(grpc_stream_service.WAIT_S)
        match prompt.way:
            case "fails at the end":
                raise ValueError("secret of a customer")
            case "breaks its schema":
                yield Token("x" * 100_001, 0, sound, False)
            case "breaks its shape":
                yield Token("x", 0, np.zeros(3, np.float32), False)
    finally:
        stage.closed.set()


@loose.compute
def echo(weights: Weights, prompt: Loose) -> Iterator[Loose]:
    """What came in."""
    yield prompt


@double.compute
def twice(weights: Weights, batch: Arrays) -> Arrays:
    """Twice the row."""
    return {"x": batch["x"].astype(np.float64) * 2}
'''


class Stage:
    """Where a generator and its test meet."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.closed = threading.Event()
        self.produced = 0


class Stages(dict[str, Stage]):
    """Text of a prompt → its stage."""

    def __missing__(self, text: str) -> Stage:
        self[text] = Stage()
        return self[text]


STAGES = Stages()


def write_chatty(folder: Path, package: str, runtime: str = "") -> Path:
    """The service; `package` is unique in the process. Returns the folder."""
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / f"{package}.py").write_text(CHATTY.replace("PACKAGE", package))
    models = "".join(
        f'[bundle.models.{name}]\nfile = "model/model.ubj"\nformat = "xgboost"\n\n'
        for name in ("chat", "hidden", "loose", "double")
    )
    streams = f"[runtime.models.chat]\nstreams = {PLACES}\n"
    (folder / "slipway.toml").write_text(f'{runtime}entry = "{package}:service"\n\n{models}{streams}')
    return folder


def prompt(
    text: str, way: str = "plainly", *, name: str = "chat", pitch: float = 1.5, timeout_us: int = 0
) -> pb.ModelInferRequest:
    """One prompt with typed contents; its id is its text."""
    request = pb.ModelInferRequest(model_name=name, id=text)
    for column, word in (("text", text), ("way", way)):
        request.inputs.add(name=column, datatype="BYTES", shape=[1]).contents.bytes_contents.append(word.encode())
    for column, number in (("tone.pitch", pitch), ("tone.rest", np.nan)):
        request.inputs.add(name=column, datatype="FP32", shape=[1]).contents.fp32_contents.append(number)
    if timeout_us:
        request.parameters["timeout"].int64_param = timeout_us
    return request


def row(x: float) -> pb.ModelInferRequest:
    """A request for the ordinary model."""
    request = pb.ModelInferRequest(model_name="double", id=f"row {x}")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(x)
    return request


def word(response: pb.ModelStreamInferResponse) -> str:
    """The word of an item."""
    assert response.error_message == ""
    return response.infer_response.outputs[0].contents.bytes_contents[0].decode()


def is_final(response: pb.ModelStreamInferResponse) -> bool:
    """Whether this says that nothing more comes for its request."""
    return response.infer_response.parameters[FINAL].bool_param


def problem_in(response: pb.ModelStreamInferResponse) -> dict[str, Any]:
    """The problem of an error response."""
    assert response.error_message
    found: dict[str, Any] = json.loads(response.infer_response.parameters["slipway-problem"].string_param)
    return found


class Conversation:
    """One `ModelStreamInfer`; requests are sent one by one, responses read one by one."""

    def __init__(self, stub: Any, timeout_s: float | None) -> None:
        self._requests: queue.Queue[pb.ModelInferRequest | None] = queue.Queue()
        self.call = stub.ModelStreamInfer(iter(self._requests.get, None), timeout=timeout_s)

    def ask(self, *requests: pb.ModelInferRequest) -> None:
        """Send."""
        for request in requests:
            self._requests.put(request)

    def next(self) -> pb.ModelStreamInferResponse:
        """The next response; waits for it."""
        response: pb.ModelStreamInferResponse = next(self.call)
        return response

    def answer_to(self, request: pb.ModelInferRequest) -> list[pb.ModelStreamInferResponse]:
        """Send one request and read its responses."""
        self.ask(request)
        responses = [self.next()]
        while not is_final(responses[-1]):
            responses.append(self.next())
        return responses

    def end(self) -> list[pb.ModelStreamInferResponse]:
        """Say that nothing more is asked, and read to the end."""
        self._requests.put(None)
        return list(self.call)

    def close(self) -> None:
        """Leave, whatever is open."""
        self._requests.put(None)
        self.call.cancel()


@contextlib.contextmanager
def talking(stub: Any, timeout_s: float | None = WAIT_S) -> Iterator[Conversation]:
    """A conversation that is over after the `with` block."""
    conversation = Conversation(stub, timeout_s)
    try:
        yield conversation
    finally:
        conversation.close()
