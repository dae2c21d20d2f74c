"""How the processes of a service talk: frames over Unix sockets, large payloads through shared memory."""

from slipway_runtime.wire.connection import FrameSocket, PeerGone, Received, connect_to
from slipway_runtime.wire.frames import INLINE_BYTES, Frame, Place, WireError
from slipway_runtime.wire.slab import SLAB_BYTES, Slab, SlabView

__all__ = [
    "INLINE_BYTES",
    "SLAB_BYTES",
    "Frame",
    "FrameSocket",
    "PeerGone",
    "Place",
    "Received",
    "Slab",
    "SlabView",
    "WireError",
    "connect_to",
]
