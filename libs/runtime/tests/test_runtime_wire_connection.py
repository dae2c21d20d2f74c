"""Both ends of a connection: order, partial writes, descriptors, and the end."""

import array
import os
import socket
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_wire_fakes import frame_pair, open_descriptors, pair, receive_all

from slipway_runtime.wire.connection import FrameSocket, PeerGone
from slipway_runtime.wire.frames import HEADER, Answered, Cancel, Frame, ShareSlab, WireError, encode_into


def marked(content: bytes) -> int:
    """A descriptor that can be told from others."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())


@given(st.lists(st.sampled_from(["small", "large", "shared", "flush", "receive"]), max_size=25))
def test_each_descriptor_arrives_with_the_frame_that_announced_it(steps: list[str]) -> None:
    before = open_descriptors()
    here, there = frame_pair()
    sent: list[Frame] = []
    received: list[tuple[Frame, tuple[int, ...]]] = []

    for at, step in enumerate([*steps, "flush", "receive"]):
        if step == "flush":
            here.flush()
        elif step == "receive":
            received += receive_all(there)
        elif step == "shared":
            fd = marked(b"%d" % at)
            here.send(ShareSlab(at, 1), fds=(fd,))
            os.close(fd)  # at once: the socket has its own
            sent.append(ShareSlab(at, 1))
        else:
            sent.append(Answered([at], b"x" * (10 if step == "small" else 300_000)))
            here.send(sent[-1])
    while not here.flush() or len(received) < len(sent):
        received += receive_all(there)

    assert [frame for frame, _ in received] == sent
    for frame, fds in received:
        assert len(fds) == isinstance(frame, ShareSlab)
        for fd in fds:
            assert isinstance(frame, ShareSlab)
            assert os.pread(fd, 10, 0) == b"%d" % frame.slab
            assert not os.get_inheritable(fd)
            os.close(fd)
    here.close()
    there.close()
    assert open_descriptors() == before


def test_frames_of_one_flush_leave_in_one_piece() -> None:
    wire, raw = pair()
    expected = bytearray()
    for number in range(50):
        wire.send(Cancel([number]))
        encode_into(Cancel([number]), expected)

    assert wire.flush()

    with raw:
        assert raw.recv(65_536) == expected
    wire.close()


def test_what_the_kernel_does_not_take_is_kept_and_leaves_later_in_order() -> None:
    here, there = frame_pair()
    sent: list[Frame] = []
    while here.flush():
        sent.append(Answered([len(sent)], b"x" * 50_000))
        here.send(sent[-1])
    sent.append(Cancel([1]))
    here.send(sent[-1])
    assert here.unsent_bytes > 0

    received: list[Frame] = []
    while len(received) < len(sent):
        received += [frame for frame, _ in receive_all(there)]
        here.flush()

    assert received == sent
    assert here.unsent_bytes == 0
    here.close()
    there.close()


def test_what_was_said_before_the_end_is_heard_also_by_who_fails_to_answer() -> None:
    here, there = frame_pair()
    there.send(Cancel([1]))
    there.flush()
    there.close()
    here.send(Cancel([2]))

    with pytest.raises(PeerGone):
        here.flush()
    assert [frame for frame, _ in here.receive()] == [Cancel([1])]
    with pytest.raises(PeerGone):
        here.receive()
    here.close()


def test_a_frame_without_its_descriptor_is_a_wire_error() -> None:
    wire, raw = pair()
    stream = bytearray()
    encode_into(ShareSlab(1, 1), stream)
    with raw:
        raw.sendall(stream)

        with pytest.raises(WireError, match="without its descriptor: ShareSlab"):
            wire.receive()
    wire.close()


@pytest.mark.parametrize("fds", [0, 2])
def test_a_sender_cannot_forget_or_add_a_descriptor(fds: int) -> None:
    wire, raw = pair()
    with raw, pytest.raises(ValueError, match="bug in slipway"):
        wire.send(ShareSlab(1, 1), fds=[0] * fds)
    wire.close()


def send_with(raw: socket.socket, data: bytes, fds: list[int]) -> None:
    raw.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


@pytest.mark.parametrize(
    ("body", "fds"),
    [(b"\xc1", 1), (b"\x93\x07\x01\x01", 17), (b"\x93\x07\x01\x01", 40), (b"\x92\x08\x01", 3)],
    ids=["no-frame", "more-than-may-wait", "more-than-fit", "unannounced"],
)
def test_descriptors_that_nobody_takes_are_closed(body: bytes, fds: int) -> None:
    before = open_descriptors()
    wire, raw = pair()
    given_away = [marked(b"") for _ in range(fds)]
    with raw:
        send_with(raw, HEADER.pack(len(body)) + body, given_away)
        if fds == 3:
            wire.receive()
        else:
            with pytest.raises(WireError):
                wire.receive()

    wire.close()
    for fd in given_away:
        os.close(fd)
    assert open_descriptors() == before


def test_frames_before_a_broken_one_do_not_leak_their_descriptors() -> None:
    before = open_descriptors()
    wire, raw = pair()
    fd = marked(b"")
    stream = bytearray()
    encode_into(ShareSlab(1, 1), stream)
    with raw:
        send_with(raw, bytes(stream) + HEADER.pack(1) + b"\xc1", [fd])
        with pytest.raises(WireError):
            wire.receive()

    os.close(fd)
    wire.close()
    assert open_descriptors() == before


def test_a_descriptor_that_never_left_is_closed_with_the_connection() -> None:
    before = open_descriptors()
    here, there = frame_pair()
    fd = marked(b"")
    here.send(ShareSlab(1, 1), fds=(fd,))
    os.close(fd)

    here.close()
    there.close()
    here.close()

    assert open_descriptors() == before
    assert here.is_closed


def test_a_silent_connection_has_nothing_to_say() -> None:
    here, raw = pair()
    with raw:
        assert here.receive() == []
        assert isinstance(here, FrameSocket)
    here.close()
