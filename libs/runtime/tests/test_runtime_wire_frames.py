"""Frames and their bytes: what goes in comes out, however the stream was cut, and nothing else is believed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_wire_fakes import POOL, frame_pair, pair, receive_all

from slipway_runtime.wire.connection import PeerGone
from slipway_runtime.wire.frames import (
    HEADER,
    MAX_FRAME_BYTES,
    Answered,
    Cancel,
    Dismissed,
    Done,
    DropSlab,
    Failure,
    Frame,
    Leaving,
    Place,
    Rejected,
    RejectedTicket,
    Release,
    ResultPart,
    Submit,
    SubmittedTicket,
    WireError,
    Work,
    WorkGroup,
    WorkTicket,
    encode_into,
)

numbers = st.integers(0, 2**63 - 1)
seconds = st.floats(allow_nan=False)
texts = st.text(max_size=20)
blobs = st.binary(max_size=40) | st.builds(Place, numbers, numbers)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        Submit,
        texts,
        texts,
        st.binary(max_size=8),
        st.lists(st.builds(SubmittedTicket, numbers, numbers, seconds, blobs)),
    ),
    st.builds(Cancel, st.lists(numbers)),
    st.builds(Release, st.lists(st.tuples(numbers, numbers))),
    st.builds(Answered, st.lists(numbers), blobs, numbers),
    st.builds(Rejected, st.lists(st.builds(RejectedTicket, numbers, texts, texts, seconds, texts))),
    st.builds(DropSlab, numbers),
    st.builds(
        Work,
        numbers,
        texts,
        st.binary(max_size=8),
        st.lists(st.builds(WorkGroup, numbers, st.lists(st.builds(WorkTicket, numbers, seconds, blobs), max_size=3))),
    ),
    st.builds(
        Done,
        numbers,
        seconds,
        st.lists(st.builds(ResultPart, st.lists(numbers), blobs)),
        st.lists(st.builds(Failure, numbers, texts, texts)),
    ),
    st.builds(Leaving),
    st.builds(Dismissed),
)


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 200), max_size=30))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(sent: list[Frame], cuts: list[int]) -> None:
    stream = bytearray()
    for frame in sent:
        encode_into(frame, stream)
    wire, raw = pair()

    received: list[Frame] = []
    with raw:
        for cut in [*cuts, len(stream)]:
            raw.sendall(stream[:cut])
            del stream[:cut]
            received += [frame for frame, _ in receive_all(wire)]

    wire.close()
    assert received == sent


@pytest.mark.parametrize("size", [0, 16_384, 262_140, 262_144, 300_000, 5_000_000])
def test_a_frame_of_any_size_arrives_between_small_ones(size: int) -> None:
    here, there = frame_pair()
    sent: list[Frame] = [Cancel([1]), Answered([2], b"x" * size), Cancel([3])]
    for frame in sent:
        here.send(frame)

    received: list[Frame] = []
    while not here.flush() or len(received) < 3:
        received += [frame for frame, _ in receive_all(there)]

    assert received == sent
    here.close()
    there.close()


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_come() -> None:
    wire, raw = pair()
    with raw:
        raw.sendall(HEADER.pack(MAX_FRAME_BYTES + 1))

        with pytest.raises(WireError, match="expected at most 67108864 bytes, got 67108865"):
            wire.receive()
    wire.close()


def test_a_frame_beyond_the_limit_is_refused_by_its_sender_and_its_mates_leave() -> None:
    here, there = frame_pair()
    here.send(Cancel([1]))

    with pytest.raises(WireError, match="'Answered'"):
        here.send(Answered([2], b"x" * MAX_FRAME_BYTES))

    here.send(Cancel([3]))
    assert here.flush()
    assert [frame for frame, _ in receive_all(there)] == [Cancel([1]), Cancel([3])]
    here.close()
    there.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x90", msgspec.msgpack.encode([99, 1]), msgspec.msgpack.encode([3, ["one"]]), b"GET / HTTP/1.1"],
    ids=["empty", "no-msgpack", "no-kind", "unknown-kind", "wrong-type", "http"],
)
def test_what_is_no_frame_is_a_wire_error(body: bytes) -> None:
    wire, raw = pair()
    with raw:
        raw.sendall(HEADER.pack(len(body)) + body)

        with pytest.raises(WireError, match="does not decode"):
            wire.receive()
    wire.close()


def test_a_frame_with_a_field_more_is_read_without_it() -> None:
    """A field may be added at the end without a new kind of frame."""
    wire, raw = pair()
    body = msgspec.msgpack.encode([8, 7, "from a later version"])
    with raw:
        raw.sendall(HEADER.pack(len(body)) + body)

        assert [frame for frame, _ in wire.receive()] == [DropSlab(7)]
    wire.close()


def test_a_pool_keeps_every_limit_on_the_way() -> None:
    data = msgspec.msgpack.encode(POOL)

    assert msgspec.msgpack.decode(data, type=type(POOL)) == POOL


def test_half_a_frame_at_the_end_is_not_a_frame() -> None:
    wire, raw = pair()
    stream = bytearray()
    encode_into(Cancel([1]), stream)
    encode_into(Cancel([2]), stream)
    with raw:
        raw.sendall(stream[:-1])

    assert [frame for frame, _ in wire.receive()] == [Cancel([1])]
    with pytest.raises(PeerGone):
        wire.receive()
    wire.close()
