"""A dispatcher that dies, is not there yet, or talks nonsense: no ticket is lost, none is answered twice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import runtime_wire_fakes
import uvloop
from runtime_wire_fakes import (
    DEADLINE_S,
    POOL,
    LoopPeer,
    Station,
    at_station,
    listening,
    open_descriptors,
    readable_soon,
    result_of,
    result_slab,
    turns,
)

from slipway_runtime import DeadlineExceeded, Limits
from slipway_runtime.errors import Unreachable
from slipway_runtime.pool_client import PoolClient
from slipway_runtime.wire.frames import Answered, Cancel, DropSlab, Leaving, Place, ShareSlab

LARGE = b"x" * 20_000


def test_after_a_lost_connection_everything_outstanding_is_submitted_again_in_order() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        futures = [lane.submit_nowait(payload, 1, s.later(60)) for payload in (b"1", LARGE, b"3", b"4")]
        first = await s.peer.submitted()
        s.peer.answer(first[0])
        await result_of(futures[0])
        futures[2].cancel()
        await s.peer.next(Cancel)

        s.peer.close()
        await s.accept()

        again = await s.peer.submitted()
        assert again == [first[1], first[3]]
        assert s.peer.payload(again[0]) == LARGE
        s.peer.answer(*again)
        await result_of(futures[3])
        assert (lane.statistics().ok, lane.statistics().cancelled) == (3, 1)

    at_station(main)


def test_what_comes_while_nobody_is_there_leaves_with_the_next_connection() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        await s.break_off()
        future = lane.submit_nowait(b"meanwhile", 1, s.later(60))
        left = lane.submit_nowait(LARGE, 1, s.later(60))
        left.cancel()

        await s.accept()

        (ticket,) = await s.peer.submitted()
        assert ticket.payload == b"meanwhile"
        s.peer.answer(ticket)
        await result_of(future)

    at_station(main)


def test_what_expired_while_nobody_was_there_is_not_submitted_again() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        expiring = lane.submit_nowait(LARGE, 1, s.later(0.005))
        kept = lane.submit_nowait(b"kept", 1, s.later(60))
        await s.peer.submitted()
        await s.break_off()

        with pytest.raises(DeadlineExceeded):
            await result_of(expiring)
        assert s.client.slab_used_bytes == 0
        await s.accept()

        (ticket,) = await s.peer.submitted()
        assert ticket.payload == b"kept"
        s.peer.answer(ticket)
        await result_of(kept)

    at_station(main)


@pytest.mark.parametrize(
    "nonsense", ["twice", "never asked", "nobody", "no slab", "dropped slab", "outside", "runner", "noise"]
)
def test_a_dispatcher_that_talks_nonsense_is_left_and_nothing_is_lost(nonsense: str) -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        future = lane.submit_nowait(b"row", 1, s.later(60))
        (ticket,) = await s.peer.submitted()

        if nonsense == "twice":
            s.peer.say(Answered([ticket.id, ticket.id + 7], b"ok"))
        elif nonsense == "never asked":
            s.peer.say(Answered([ticket.id + 7], b"ok"))
        elif nonsense == "nobody":
            s.peer.say(Answered([], b"ok"))
        elif nonsense == "no slab":
            s.peer.say(Answered([ticket.id], Place(0, 1), 9))
        elif nonsense == "dropped slab":
            slab, (place,) = result_slab(LARGE)
            s.peer.say(ShareSlab(9, slab.capacity), [slab.fileno()])
            s.peer.say(DropSlab(9))
            s.peer.say(Answered([ticket.id], place, 9))
            slab.close()
        elif nonsense == "outside":
            slab, _ = result_slab(LARGE)
            s.peer.say(ShareSlab(9, slab.capacity), [slab.fileno()])
            s.peer.say(Answered([ticket.id], Place(slab.capacity, 1), 9))
            slab.close()
        elif nonsense == "runner":
            s.peer.say(Leaving())
        else:
            s.peer.wire._socket.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        old = s.peer
        await s.accept()

        assert await s.peer.submitted() == [ticket]
        s.peer.answer(ticket)
        await result_of(future)
        old.close()

    at_station(main)


def test_a_new_dispatcher_hears_nothing_that_was_meant_for_the_old_one() -> None:
    """Slab numbers are a dispatcher's own: a release of the old one's would free what the new one still reads."""

    async def main(s: Station) -> None:
        lane = s.lane()
        futures = [lane.submit_nowait(b"row", 1, s.later(60)) for _ in range(3)]
        tickets = await s.peer.submitted()
        slab, (place,) = result_slab(LARGE)
        futures[1].cancel()
        s.peer.wire.send(ShareSlab(1, slab.capacity), [slab.fileno()])
        s.peer.wire.send(Answered([tickets[0].id], place, 1))
        s.peer.say(Leaving())  # nonsense from a dispatcher: the connection ends in the turn of the answer
        old = s.peer
        await s.accept()

        assert await s.peer.submitted() == [tickets[2]]
        assert (await result_of(futures[0])).result == LARGE
        assert s.peer.is_silent()
        s.peer.say(Answered([tickets[2].id], place, 1))  # never shared on this connection
        new = s.peer
        await s.accept()
        s.peer.answer(*await s.peer.submitted())
        await result_of(futures[2])
        for peer in (old, new):
            peer.close()
        slab.close()

    at_station(main)


def test_a_last_word_that_was_on_its_way_when_the_dispatcher_died_still_counts() -> None:
    async def main(s: Station) -> None:
        lane = s.lane()
        futures = [lane.submit_nowait(b"row", 1, s.later(60)) for _ in range(2)]
        answered, lost = await s.peer.submitted()
        s.peer.answer(answered)
        s.peer.close()

        await result_of(futures[0])
        await s.accept()

        assert await s.peer.submitted() == [lost]
        s.peer.answer(lost)
        await result_of(futures[1])
        assert lane.statistics().ok == 2

    at_station(main)


def test_a_client_waits_for_a_dispatcher_that_is_not_there_yet() -> None:
    async def main() -> None:
        with listening() as (path, listener):
            at_another = f"{path}-not-yet"
            os.rename(path, at_another)  # noqa: PTH104 - in a test nobody waits for a disk
            client = PoolClient(path, name="worker-1", pools=[POOL], slab_bytes=1 << 16)
            connecting = asyncio.create_task(client.connect(DEADLINE_S))
            await turns()
            assert not connecting.done()

            os.rename(at_another, path)  # noqa: PTH104 - see above

            await connecting
            await readable_soon(listener.fileno())
            peer = LoopPeer(listener.accept()[0])
            attach = await peer.attached()
            assert (attach.name, attach.pools, attach.slab_bytes) == ("worker-1", (POOL,), 1 << 16)
            await client.close()
            peer.close()

    asyncio.run(main())


def test_a_dispatcher_that_never_comes_is_an_error_with_its_path() -> None:
    async def main() -> None:
        before = open_descriptors()
        client = PoolClient("/nowhere/dispatcher", name="worker-1", pools=[POOL], slab_bytes=1 << 16)
        with pytest.raises(Unreachable, match="'/nowhere/dispatcher'"):
            await client.connect(0.01)
        assert open_descriptors() == before

    asyncio.run(main())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_dispatcher_that_is_killed_again_and_again_loses_nothing(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A real process behind a socket that outlives it, as a supervisor has it; SIGKILL in the middle of the traffic."""

    async def main() -> None:
        with listening() as (path, listener):

            def start() -> subprocess.Popen[bytes]:
                command = [sys.executable, runtime_wire_fakes.__file__, str(listener.fileno())]
                return subprocess.Popen(command, pass_fds=[listener.fileno()])

            process = start()
            client = PoolClient(path, name="worker-1", pools=[POOL], slab_bytes=1 << 22)
            await client.connect(DEADLINE_S)
            limits = Limits(max_queued_rows=100_000)
            lane = client.line(POOL.name, "churn", limits=limits, decode=bytes)
            loop = asyncio.get_running_loop()
            payloads = [b"%d" % at + (LARGE if at % 50 == 0 else b"") for at in range(600)]
            futures = [lane.submit_nowait(payload, 1, loop.time() + DEADLINE_S) for payload in payloads]
            for milestone in (0, 200, 400):
                await result_of(futures[milestone])
                process.kill()
                process.wait()
                process = start()

            answers = [await result_of(future) for future in futures]

            assert [answer.result for answer in answers] == payloads
            assert lane.statistics().ok == lane.statistics().admitted == len(payloads)
            assert (client.outstanding, client.slab_used_bytes) == (0, 0)
            await client.close()
            process.kill()
            process.wait()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
