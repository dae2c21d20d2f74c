"""Models that an endpoint awaits get deadlines of their own: learned from what follows them, or shares of it."""

import asyncio
import time

import pytest
from msgspec import Struct
from web_routes import HandMade

from slipway_runtime.steps import FEW, StepBook
from slipway_serve import Problem, Service, gather
from slipway_serve.handlers import EndpointHandler
from slipway_serve.routes import Asked

pytestmark = pytest.mark.alone  # how long something takes is judged here

LENGTH_S = 5.0
UNIT_S = 0.04


class Row(Struct, frozen=True):
    """A row."""

    n: int


async def worked(seconds: float) -> None:
    """Stands for work that takes a while."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done


class Timed:
    """A lane whose answers take a while, and that remembers how much time each row was given."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.given_s: list[float] = []

    async def one(self, row: Row, deadline: float) -> Row:
        """The row itself."""
        self.given_s.append(deadline - time.monotonic())
        await worked(self.takes_s)
        return row

    async def many(self, rows: list[Row], deadline: float) -> list[Row]:
        """The rows themselves."""
        return [await self.one(rows[0], deadline)]


service = Service("steps")
detect = service.model("detect", Row, Row)
orient = service.model("orient", Row, Row)
recognise = service.model("recognise", Row, Row)


@service.endpoint("/infer")
async def infer(row: Row) -> Row:
    """detect, then orient beside recognise, then work of its own."""
    await detect(row)
    if row.n < 0:
        raise Problem(422, "no_page", "nothing to read")
    await gather(orient(row), recognise.map([row]))
    await worked(UNIT_S)
    return row


def serve(book: StepBook, requests: int, body: bytes = b'{"n":1}') -> dict[str, Timed]:
    """The lanes after some requests to the endpoint, one after another."""
    lanes = {"detect": Timed(UNIT_S), "orient": Timed(3 * UNIT_S), "recognise": Timed(4 * UNIT_S)}

    async def scene() -> None:
        handler = EndpointHandler(HandMade(lanes=lanes), infer, book)
        for _ in range(requests):
            await handler(Asked(body, {}, time.monotonic() + LENGTH_S, {}))

    asyncio.run(scene())
    return lanes


def test_what_follows_is_learned_and_branches_beside_each_other_count_once() -> None:
    book = StepBook()
    first = serve(book, FEW)
    then = serve(book, 1)

    assert all(given == pytest.approx(LENGTH_S, abs=0.1) for given in first["detect"].given_s)
    after_detect = LENGTH_S - then["detect"].given_s[0]
    assert after_detect >= 4.5 * UNIT_S  # the longest branch and the rest
    learned = {follow.step: follow.p95_s for follow in book.follows(time.monotonic())}
    assert learned["detect"] - learned["recognise"] < 6 * UNIT_S  # and not orient's 3 on top of recognise's 4
    assert learned["orient"] == pytest.approx(learned["recognise"], abs=1e-6)  # it may take as long as its mate


def test_a_share_of_the_deadline_can_be_configured() -> None:
    lanes = serve(StepBook({"detect": 0.4}), 1)

    assert lanes["detect"].given_s[0] == pytest.approx(0.4 * LENGTH_S, abs=0.1)
    assert lanes["recognise"].given_s[0] > 0.9 * LENGTH_S


def test_a_request_that_fails_teaches_nothing() -> None:
    book = StepBook()

    with pytest.raises(Problem, match="nothing to read"):
        serve(book, 1, b'{"n":-1}')

    assert book.follows(time.monotonic()) == ()
