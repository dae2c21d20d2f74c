"""Stream models in this process: a bounded set of threads, each driving one generator, with back-pressure.

It knows no HTTP and loads no weights. `StreamSource` and `Items` are the face that callers see, so that a source whose
generators run in other processes can take its place. The invariants: at most `places` generators are alive; at most
`BUFFER` items of one wait for their reader, then the generator pauses; a generator is closed (its `finally` runs) when
its reader leaves or its deadline passes, as soon as it comes to its next item; every item that leaves fits the
answer's schema. A generator cannot be interrupted inside one item: its place is free only when it has really ended.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Literal, Protocol, Self

import msgspec
from msgspec import Struct

from slipway_bundle.array_json import decode_array, encode_array
from slipway_runtime import DeadlineExceeded, ModelFailed, Observer, Refused, SilentObserver
from slipway_runtime.tally import DrainReport
from slipway_serve.lane import AnswerError

logger = logging.getLogger(__name__)

PLACES: Final = 8
BUFFER: Final = 16
"""Items of one stream that wait for its reader; a token is a few hundred bytes."""
RECENT: Final = 0.2
"""Weight of the newest stream in the mean length that `Retry-After` is made of."""

Generate = Callable[[Any], Iterator[Any]]
Outcome = Literal["answered", "failed", "expired", "cancelled"]


class Items(Protocol):
    """The items of one open stream, in order. Ends by `StopAsyncIteration`, or raises what went wrong."""

    def __aiter__(self) -> AsyncIterator[Struct]:
        """Itself."""

    async def __anext__(self) -> Struct:
        """The next item; cancelling the wait for it loses nothing."""

    def close(self) -> None:
        """Nobody reads on: the generator is closed at its next item. Idempotent, returns at once."""


class StreamSource(Protocol):
    """Where the prompts of one stream model go; `StreamLane` here, later a pool of runners."""

    @property
    def name(self) -> str:
        """The model's."""

    def open(self, prompt: Struct, deadline: float) -> Items:
        """Begin one stream.

        Args:
            prompt: validated.
            deadline: of the whole stream, on `time.monotonic()`.

        Raises:
            Refused: all places are taken, the deadline has passed, or the source is draining.
        """

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, let open streams end; those that are still open after `timeout_s` are closed."""


class StreamStatistics(Struct, frozen=True, kw_only=True):
    """What a lane does now, and did."""

    places: int
    open: int
    paused: int
    """Generators that wait for a slow reader."""
    answered: int
    failed: int
    expired: int
    cancelled: int
    refused: int


class StreamLane:
    """Streams of one model in threads of this process. Every method runs on the event loop's thread.

    Args:
        name: the model's.
        generate: prompt → generator of answers; the model's `compute` with the weights bound. Runs in a thread.
        answer: what every item is.
        places: generators alive at once; one more is refused.
        observer: hears of streams that were admitted, refused, answered, failed, expired and cancelled, as one row.
    """

    def __init__(
        self,
        name: str,
        generate: Generate,
        answer: type[Struct],
        *,
        places: int = PLACES,
        observer: Observer | None = None,
    ) -> None:
        self._name = name
        self._generate = generate
        self._answer = answer
        self._places = places
        self._observer = observer or SilentObserver()
        self._encode = msgspec.json.Encoder(enc_hook=encode_array).encode
        self._decode = msgspec.json.Decoder(answer, dec_hook=decode_array).decode
        self._jobs: SimpleQueue[tuple[_Flow, Any] | None] = SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()
        self._open: set[_Flow] = set()
        self._counts: dict[str, int] = dict.fromkeys(("answered", "failed", "expired", "cancelled", "refused"), 0)
        self._length_s = 1.0
        self._is_draining = False
        self._emptied: asyncio.Event | None = None

    @property
    def name(self) -> str:
        """The model's."""
        return self._name

    def open(self, prompt: Struct, deadline: float) -> "_Flow":
        """Begin one stream; see `StreamSource.open`."""
        now = time.monotonic()
        with self._lock:
            is_full = len(self._open) >= self._places
        if self._is_draining:
            raise self._refuse("draining", 0.0)
        if deadline <= now:
            raise self._refuse("deadline", 0.0)
        if is_full:
            raise self._refuse("queue_full", self._length_s / self._places)
        flow = _Flow(asyncio.get_running_loop(), self._name, now, deadline)
        with self._lock:
            self._open.add(flow)
            wanted = len(self._open)
        if self._threads < wanted:
            self._threads += 1
            threading.Thread(target=self._work, name=f"slipway-{self._name}-{self._threads}", daemon=True).start()
        self._observer.admitted(self._name)
        self._jobs.put((flow, prompt))
        return flow

    async def prove(self, prompt: Struct, timeout_s: float) -> None:
        """Answer one prompt as far as its first item, if it has one: readiness is this, not a constant.

        Raises:
            SlipwayError: the generator fails, or yields nothing within `timeout_s`.
        """
        items = self.open(prompt, time.monotonic() + timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await anext(items, None)
        except TimeoutError as error:
            raise DeadlineExceeded(self._name, timeout_s) from error
        finally:
            items.close()

    def statistics(self) -> StreamStatistics:
        """What the lane does now."""
        with self._lock:
            flows = list(self._open)
        paused = sum(flow.is_paused for flow in flows)
        return StreamStatistics(places=self._places, open=len(flows), paused=paused, **self._counts)

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, let open streams end; see `StreamSource.drain`."""
        started = time.monotonic()
        self._is_draining = True
        self._emptied = asyncio.Event()
        with self._lock:
            left = len(self._open)
        if left:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
            except TimeoutError:
                with self._lock:
                    flows = list(self._open)
                for flow in flows:
                    flow.close()
        with self._lock:
            left = len(self._open)
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0
        return DrainReport(is_clean=not left, abandoned=left, took_s=time.monotonic() - started)

    def _refuse(self, reason: Literal["queue_full", "deadline", "draining"], retry_after_s: float) -> Refused:
        self._counts["refused"] += 1
        self._observer.refused(self._name, reason)
        return Refused(self._name, reason, retry_after_s)

    def _work(self) -> None:
        """A thread: one generator after another."""
        while (job := self._jobs.get()) is not None:
            flow, prompt = job
            outcome, failure = self._drive(flow, prompt)
            with self._lock:
                self._open.discard(flow)  # before the reader hears of the end: it may open the next at once
            flow.end(failure, partial(self._ended, flow, outcome))
            del flow, prompt, job, failure

    def _drive(self, flow: "_Flow", prompt: Any) -> tuple[Outcome, Exception | None]:
        """Run one generator to its end, or until nobody waits for it."""
        generator: Iterator[Any] | None = None
        try:
            generator = self._generate(prompt)
            while not flow.is_over():
                try:
                    item = next(generator)
                except StopIteration:
                    return "answered", None
                flow.put(self._checked(item))
            return flow.ending()
        except AnswerError as error:
            return "failed", error
        except BaseException as error:  # noqa: BLE001  # user code in a thread of ours: whatever it raises is its reader's
            return "failed", ModelFailed(self._name, error)
        finally:
            self._close(generator)

    def _close(self, generator: Iterator[Any] | None) -> None:
        """Run the generator's `finally`."""
        close = getattr(generator, "close", None)
        try:
            if close is not None:
                close()
        except BaseException:  # the reader has its outcome already
            logger.exception("stream model %s failed while it was closed", self._name)

    def _checked(self, item: object) -> Struct:
        """The item, validated (constructing a Struct checks nothing) and free of numpy scalars."""
        if not isinstance(item, self._answer):
            raise AnswerError(f"stream model {self._name!r} yielded {item!r:.100}, expected {self._answer.__name__}")
        try:
            return self._decode(self._encode(item))
        except (msgspec.MsgspecError, NotImplementedError, TypeError) as error:
            raise AnswerError(f"an item of stream model {self._name!r} breaks its schema: {error}") from error

    def _ended(self, flow: "_Flow", outcome: Outcome) -> None:
        """On the loop: count, and let a drain go on."""
        self._length_s += RECENT * (time.monotonic() - flow.started - self._length_s)
        self._counts[outcome] += 1
        match outcome:
            case "answered":
                self._observer.answered(self._name, 1)
            case "failed":
                self._observer.failed(self._name, 1)
            case "expired":
                self._observer.expired(self._name, 1)
            case "cancelled":
                self._observer.cancelled(self._name, 1)
        if self._emptied is not None:
            with self._lock:
                is_empty = not self._open
            if is_empty:
                self._emptied.set()


class _Flow:
    """One stream between its thread (`put`, `end`) and its reader on the loop (`__anext__`, `close`)."""

    __slots__ = ("_changed", "_deadline", "_failure", "_is_closed", "_is_ended", "_items", "_loop", "_name", "_waiter",
                 "is_paused", "started")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, started: float, deadline: float) -> None:
        self._loop = loop
        self._name = name
        self._deadline = deadline
        self._changed = threading.Condition()
        self._items: deque[Struct] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self._is_ended = False
        self._failure: Exception | None = None
        self.started = started
        self.is_paused = False
        """The generator waits, because `BUFFER` items are not read."""

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> Struct:
        """The next item; waits until the generator has one. Cancelling the wait loses nothing."""
        while True:
            with self._changed:
                if self._items:
                    item = self._items.popleft()
                    self._changed.notify()
                    return item
                if self._is_ended or self._is_closed:
                    failure, self._failure = self._failure, None
                    if failure is not None:
                        raise failure
                    raise StopAsyncIteration
                waiter = self._waiter = self._loop.create_future()
            await waiter

    def close(self) -> None:
        """Nobody reads on; see `Items.close`."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify()
        self._wake()

    def is_over(self) -> bool:
        """In the thread: whether the reader has left or the deadline has passed."""
        return self._is_closed or time.monotonic() >= self._deadline

    def ending(self) -> tuple[Outcome, Exception | None]:
        """In the thread: why it is over."""
        if self._is_closed:
            return "cancelled", None
        return "expired", DeadlineExceeded(self._name, time.monotonic() - self.started)

    def put(self, item: Struct) -> None:
        """In the thread: hand one item over; waits while the buffer is full, until the deadline at most."""
        with self._changed:
            while len(self._items) >= BUFFER and not self.is_over():
                self.is_paused = True
                self._changed.wait(max(0.0, self._deadline - time.monotonic()))
            self.is_paused = False
            if self._is_closed:
                return
            self._items.append(item)
            is_awaited = self._waiter is not None
        if is_awaited:
            self._tell(self._wake)

    def end(self, failure: Exception | None, done: Callable[[], None]) -> None:
        """In the thread: nothing more will come; `done` runs on the loop."""
        with self._changed:
            self._failure = failure
            self._is_ended = True
        self._tell(done)
        self._tell(self._wake)

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            self._is_closed = True

    def _wake(self) -> None:
        """On the loop: the reader looks again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
