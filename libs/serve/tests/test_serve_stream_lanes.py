"""Stream lanes and their declarations, without HTTP: places, deadlines, proofs, drains, and what is refused."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from functools import partial

import pytest
from web_routes import WAIT_S
from web_streams import Prompt, Token, decode, stages

from slipway_runtime import DeadlineExceeded, ModelFailed, Refused
from slipway_serve import Service, Weights
from slipway_serve.service import DeclarationError
from slipway_serve.streams import StreamLane


def test_a_stream_that_nobody_reads_gives_its_place_back_at_its_deadline() -> None:
    async def scene() -> int:
        lane = StreamLane("chat", partial(decode, lambda batch: batch), Token, places=1)
        unread = lane.open(Prompt("unread", "endlessly"), time.monotonic() + 0.1)
        await asyncio.to_thread(stages["unread"].closed.wait, WAIT_S)
        with pytest.raises(DeadlineExceeded):
            async for _ in unread:
                pass
        return lane.statistics().open

    assert asyncio.run(scene()) == 0


@pytest.mark.parametrize(
    ("way", "raises"), [("plainly", None), ("fails at once", ModelFailed), ("hangs", DeadlineExceeded)]
)
def test_a_lane_proves_itself_with_one_item(way: str, raises: type[Exception] | None) -> None:
    async def scene() -> None:
        lane = StreamLane("chat", partial(decode, lambda batch: batch), Token)
        with nullcontext() if raises is None else pytest.raises(raises):
            await lane.prove(Prompt(f"proof {way}", way), 0.2 if way == "hangs" else WAIT_S)
        stages[f"proof {way}"].go_on.set()

    asyncio.run(scene())

    assert stages[f"proof {way}"].closed.wait(WAIT_S)


def test_a_draining_lane_refuses_and_lets_open_streams_end() -> None:
    go_on = threading.Event()

    def generate(prompt: Prompt) -> Iterator[Token]:
        yield Token("one")
        go_on.wait(WAIT_S)
        yield Token("two")

    async def scene() -> tuple[list[str], str, bool]:
        lane = StreamLane("chat", generate, Token)
        items = lane.open(Prompt(""), time.monotonic() + WAIT_S)
        words = [(await anext(items)).word]  # type: ignore[attr-defined]  # a Token
        draining = asyncio.create_task(lane.drain(WAIT_S))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refusal:
            lane.open(Prompt(""), time.monotonic() + WAIT_S)
        go_on.set()
        words += [item.word async for item in items]  # type: ignore[attr-defined]
        return words, refusal.value.reason, (await draining).is_clean

    assert asyncio.run(scene()) == (["one", "two"], "draining", True)


def test_a_drain_closes_what_does_not_end() -> None:
    closed = threading.Event()

    def generate(prompt: Prompt) -> Iterator[Token]:
        try:
            while True:
                yield Token("on and on")
        finally:
            closed.set()

    async def scene() -> None:
        lane = StreamLane("chat", generate, Token)
        lane.open(Prompt(""), time.monotonic() + WAIT_S)
        await lane.drain(0.05)

    asyncio.run(scene())

    assert closed.wait(WAIT_S)


def test_a_stream_model_is_described_and_refused_when_it_cannot_be_served() -> None:
    other = Service("other")
    stream = other.stream("chat", Prompt, Token, path="/chat")

    @stream.compute
    def compute(weights: Weights, prompt: Prompt) -> Iterator[Token]:
        yield Token("")

    with pytest.raises(DeclarationError, match="two `compute`"):
        stream.compute(compute)
    with pytest.raises(DeclarationError, match="'chat' twice"):
        other.model("chat", Prompt, Token)
    with pytest.raises(DeclarationError, match="taken"):
        other.stream("again", Prompt, Token, path="/chat")
    with pytest.raises(DeclarationError, match="is async"):

        @other.stream("later", Prompt, Token).compute  # type: ignore[arg-type]  # what is refused
        async def later(weights: Weights, prompt: Prompt) -> AsyncIterator[Token]:
            yield Token("")

    with pytest.raises(DeclarationError, match=r"AsyncIterator\[Item\]"):

        @other.endpoint("/bare")  # type: ignore[arg-type]
        async def bare(prompt: Prompt) -> Token:  # type: ignore[misc]
            yield Token("")

    described = {endpoint.path: endpoint for endpoint in other.describe().endpoints}
    assert list(described) == ["/chat"]
    assert "Token" in str(described["/chat"].response)
    assert dict(other.models) == {}
