"""Closing a listening socket that processes share, without resetting a client whom the kernel has already let in.

The kernel completes connections by itself, and resets those that nobody has accepted when the last holder of the socket
closes it. So who stops for good first shuts the door (a packet filter on the socket drops whoever knocks now: he is
refused when he knocks again), then accepts all who are in, then closes.

A worker that is only being replaced must not shut the door, which others still use, and its SIGTERM looks the same.
The supervisor therefore announces the end on the socket itself, which they share: by a filter that lets all pass.

Linux only, and TCP only: elsewhere a client can be reset in the moment between the last accept and the close. A Unix
socket needs none of it, as its file is removed first.
"""

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final

__all__ = ["announce_last_call", "shut_door", "take_waiting"]

SO_ATTACH_FILTER: Final = 26  # <asm-generic/socket.h>; the same number reads it back (SO_GET_FILTER)
RETURN: Final = 0x06  # BPF_RET | BPF_K
WHOLE: Final = 0xFFFF_FFFF
NOTHING: Final = 0


def announce_last_call(listening: socket.socket) -> None:
    """Who leaves this socket from now on leaves it for good."""
    _filter(listening, WHOLE)


def shut_door(listening: socket.socket) -> None:
    """Let nobody in any more, if the last call was announced; nothing otherwise."""
    if _is_filtered(listening):
        _filter(listening, NOTHING)


def take_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept who is in already. Does not wait; ends early when this process has no descriptor left for him."""
    listening.setblocking(False)  # noqa: FBT003  # the standard library's own shape
    with contextlib.suppress(OSError):
        while True:
            with contextlib.suppress(ConnectionAbortedError):  # he left while he waited
                yield listening.accept()[0]


def _filter(listening: socket.socket, keep: int) -> None:
    """Attach the program of one instruction that keeps `keep` bytes of each packet."""
    if not _can_filter(listening):
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, keep))
    described = struct.pack("HP", 1, ctypes.addressof(program))
    with contextlib.suppress(OSError):  # a sandbox that knows no filters: the door stays as it is
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)


def _is_filtered(listening: socket.socket) -> bool:
    if not _can_filter(listening):
        return False
    with contextlib.suppress(OSError):
        return listening.getsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, 64) != b""  # room for 64 instructions
    return False


def _can_filter(listening: socket.socket) -> bool:
    return sys.platform == "linux" and listening.family in {socket.AF_INET, socket.AF_INET6}
