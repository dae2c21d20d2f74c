"""A service of streams in every way that a generator can behave, and a server for it in this process."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

from msgspec import Meta, Struct
from web_routes import WAIT_S, HandMade, Running, eventually, running_routes

from slipway_serve import Call, Problem, Service, Weights
from slipway_serve.handlers import EndpointHandler, StreamHandler
from slipway_serve.routes import Route, ServerState
from slipway_serve.streams import StreamLane

PLACES = 2
IDLE_S = 1.0
DEADLINE_S = 3 * WAIT_S
"""Nothing here may wait for it, unless a client asks for less."""


class Prompt(Struct, frozen=True):
    """What to say, and how."""

    text: Annotated[str, Meta(max_length=100)]
    way: str = "plainly"


class Token(Struct, frozen=True):
    """One item."""

    word: Annotated[str, Meta(max_length=100_000)]


class Sentence(Struct, frozen=True):
    """All items."""

    words: list[str]


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


stages = Stages()
service = Service("talk")
chat = service.stream("chat", Prompt, Token, path="/chat")


@chat.compute
def decode(weights: Weights, prompt: Prompt) -> Iterator[Token]:
    """The words of the prompt, in the way that it asks for."""
    stage = stages[prompt.text]
    try:
        match prompt.way:
            case "fails at once":
                raise ValueError("secret of a customer")
            case "hangs":
                stage.go_on.wait(WAIT_S)
            case "endlessly":
                while True:
                    stage.produced += 1
                    yield Token("x" * 20_000)
        for word in prompt.text.split():
            stage.produced += 1
            yield Token(word)
            if prompt.way == "waits":
                stage.go_on.wait(WAIT_S)
        if prompt.way == "fails at the end":
            raise ValueError("secret of a customer")
        if prompt.way == "breaks its schema":
            yield Token("x" * 100_001)
    finally:
        stage.closed.set()


@service.endpoint("/loudly", slo="chat")
async def loudly(prompt: Prompt, call: Call) -> AsyncIterator[Token]:
    """Every word of the model, louder."""
    stage = stages[f"endpoint {prompt.text}"]
    try:
        if prompt.way == "refused":
            raise Problem(403, "quiet_please", "not here")
        async for token in chat(prompt):
            assert call.remaining_s() > 0
            yield Token(token.word.upper())
    finally:
        stage.closed.set()


@service.endpoint("/ticks", slo="chat")
async def ticks(prompt: Prompt) -> AsyncIterator[Token]:
    """Never waits for anything."""
    while True:
        yield Token("tick")


@service.endpoint("/whole", slo="chat")
async def whole(prompt: Prompt) -> Sentence:
    """The first three words of the model, in one answer."""
    words: list[str] = []
    async for token in chat(prompt):
        words.append(token.word)
        if len(words) == 3:
            break
    return Sentence(words)


@service.endpoint("/wrongly", slo="chat")
async def wrongly(prompt: Prompt) -> Sentence:
    """A prompt that was constructed, not decoded."""
    return Sentence([token.word async for token in chat(Prompt("y" * 101))])


class Talk(Running):
    """The server, and its lane."""

    lane: StreamLane

    def measured(self) -> int:
        """Requests so far, when all of them have been measured: an answer is with its client a moment before."""
        assert self.metrics.wait_for(lambda: len(self.metrics.requests) == self.metrics.begun)
        return self.metrics.begun


@contextmanager
def talking() -> Iterator[Talk]:
    """The service, with two places for streams."""
    lane = StreamLane("chat", partial(decode, lambda batch: batch), Token, places=PLACES)
    engine = HandMade(streams={"chat": lane})

    def routes(state: ServerState) -> list[Route]:
        handlers: dict[str, StreamHandler | EndpointHandler] = {
            "/chat": StreamHandler(engine, chat, idle_s=IDLE_S),
            "/loudly": StreamHandler(engine, loudly, idle_s=IDLE_S),
            "/ticks": StreamHandler(engine, ticks, idle_s=IDLE_S),
            "/whole": EndpointHandler(engine, whole),
            "/wrongly": EndpointHandler(engine, wrongly),
        }
        return [Route(path, handler, state, DEADLINE_S, accepts=handler.accepts) for path, handler in handlers.items()]

    with running_routes(routes) as running:
        running.__class__ = Talk
        running.lane = lane  # type: ignore[attr-defined]  # a Talk since the line above
        yield running  # type: ignore[misc]


def events(text: str) -> list[tuple[str, Any]]:
    """(name, data) of server-sent events."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields.get("event", "message"), json.loads(fields["data"])))
    return found


def ask(text: str, way: str = "plainly") -> dict[str, Any]:
    """A request."""
    return {"json": {"text": text, "way": way}}


def idle(talk: Talk) -> bool:
    """Wait until nothing is open."""
    return eventually(lambda: talk.lane.statistics().open == 0)
