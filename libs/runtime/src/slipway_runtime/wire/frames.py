"""What API workers, the dispatcher and runners say to each other: tagged frames, and their bytes.

It moves no byte (`connection`) and decides nothing. The invariants: a frame is a u32 little-endian length and one
msgpack array whose first element names the kind; a kind always travels with the same number of descriptors
(`descriptors_of`); payloads and results are opaque, as `bytes` up to `INLINE_BYTES` or as a `Place` in the slab of the
process that wrote them. All processes of one service are of one version, so an unknown frame is an error, while fields
may be added at the end with a default.

Who says what, and when a place is free again: `docs/pools.md`.
"""

import struct
from typing import TypeAlias

import msgspec

from slipway_bundle.errors import HostError
from slipway_runtime.dispatch.spec import PoolSpec

__all__ = [
    "HEADER",
    "INLINE_BYTES",
    "MAX_FRAME_BYTES",
    "Answered",
    "Attach",
    "Blob",
    "Cancel",
    "Dismissed",
    "Done",
    "DropSlab",
    "Failure",
    "Frame",
    "Join",
    "Leaving",
    "Place",
    "Rejected",
    "RejectedTicket",
    "Release",
    "ResultPart",
    "Sample",
    "ShareSlab",
    "Submit",
    "SubmittedTicket",
    "WireError",
    "Work",
    "WorkGroup",
    "WorkTicket",
    "decode_frame",
    "descriptors_of",
    "encode_into",
]

INLINE_BYTES = 16_384
"""A payload or result up to this size travels in its frame: copying it costs less than handing a place around."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A longer frame is refused by both ends: whoever announces one does not speak this protocol."""
HEADER = struct.Struct("<I")
"""The length of the msgpack array that follows."""


class WireError(HostError):
    """The other end of a connection, or a slab, does not carry what it should."""

    code = "wire_invalid"


class Place(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where bytes are in a slab; whose slab is said by what carries the place."""

    offset: int
    size: int
    """In bytes, at least 1."""


Blob: TypeAlias = bytes | Place


class SubmittedTicket(msgspec.Struct, array_like=True, gc=False):
    """One request of an API worker."""

    id: int
    """The worker's own number; never used twice by one worker."""
    rows: int
    deadline: float
    """Monotonic seconds: one clock for all processes of a host."""
    payload: Blob


class Attach(msgspec.Struct, array_like=True, tag=1):
    """An API worker's first words, with the descriptor of its slab."""

    name: str
    pid: int
    pools: tuple[PoolSpec, ...]
    slab_bytes: int


class Submit(msgspec.Struct, array_like=True, tag=2, gc=False):
    """Requests for one line, in order of arrival."""

    pool: str
    model: str
    key: bytes
    tickets: list[SubmittedTicket]


class Cancel(msgspec.Struct, array_like=True, tag=3, gc=False):
    """The callers of these tickets left; each is answered as always, or with "released"."""

    ids: list[int]


class Release(msgspec.Struct, array_like=True, tag=4, gc=False):
    """Results that were copied out: (slab, offset) each. To the dispatcher, and on to the runner that wrote them."""

    places: list[tuple[int, int]]


class Answered(msgspec.Struct, array_like=True, tag=5, gc=False):
    """One result for the rows of these tickets, in this order; the last word about each of them."""

    ids: list[int]
    result: Blob
    slab: int = 0
    """Whose slab a `Place` is in."""
    number: int = 0
    """Of the batch, as the dispatcher counts; what follows is of the batch too: it has the shape of `BatchFacts`."""
    rows: int = 0
    sent_at: float = 0.0
    started_at: float = 0.0
    compute_s: float = 0.0
    reason: str = ""
    replica: str = ""


class RejectedTicket(msgspec.Struct, array_like=True, gc=False):
    """The last word about a ticket that got no result."""

    id: int
    code: str
    """"refused.queue_full", "refused.deadline", "refused.draining", "deadline_exceeded", "model_failed",
    "quarantined", "rows_exceeded", or "released" (a cancelled ticket is out of the system)."""
    message: str = ""
    """Of "model_failed": what the model's error said."""
    number: float = 0.0
    """Of "refused.*": retry after so many seconds; of "deadline_exceeded": seconds waited; of "rows_exceeded": the
    most rows."""
    type_name: str = ""
    """Of "model_failed": the class of the model's error."""


class Rejected(msgspec.Struct, array_like=True, tag=6, gc=False):
    """Tickets that get no result."""

    tickets: list[RejectedTicket]


class ShareSlab(msgspec.Struct, array_like=True, tag=7):
    """Here is a slab (its descriptor travels along); sent before the first place in it, to workers and runners."""

    slab: int
    """The dispatcher's number for it; never used twice by one dispatcher."""
    slab_bytes: int


class DropSlab(msgspec.Struct, array_like=True, tag=8):
    """Nothing will be read from this slab again: let go of it."""

    slab: int


class Sample(msgspec.Struct, array_like=True, gc=False):
    """One measured batch of a runner's warm-up."""

    model: str
    key: bytes
    rows: int
    seconds: float


class Join(msgspec.Struct, array_like=True, tag=9):
    """A runner's first words, with the descriptor of its slab: it can take batches of this pool."""

    name: str
    pid: int
    pool: PoolSpec
    slab_bytes: int
    load_s: float = 0.0
    """How long loading took, in seconds."""
    samples: list[Sample] = []


class WorkTicket(msgspec.Struct, array_like=True, gc=False):
    """One request in a batch."""

    rows: int
    deadline: float
    payload: Blob


class WorkGroup(msgspec.Struct, array_like=True, gc=False):
    """The tickets of one API worker in a batch; `slab` is that worker's."""

    slab: int
    tickets: list[WorkTicket]


class Work(msgspec.Struct, array_like=True, tag=10, gc=False):
    """One batch for a runner. Its tickets are counted from 0 over all groups, in order."""

    number: int
    model: str
    key: bytes
    groups: list[WorkGroup]


class ResultPart(msgspec.Struct, array_like=True, gc=False):
    """One result for the rows of these tickets, in this order; all of them are of one group."""

    tickets: list[int]
    result: Blob


class Failure(msgspec.Struct, array_like=True, gc=False):
    """The model raised for this ticket when it was alone (or with what could not be told apart)."""

    ticket: int
    type_name: str
    message: str


class Done(msgspec.Struct, array_like=True, tag=11, gc=False):
    """A batch is computed: each of its tickets is in exactly one part or failure.

    Without failures there is one part for each group. A batch that was bisected has a part for each piece of a group
    that was computed together: a worker gets one `Answered` for each.
    """

    number: int
    compute_s: float
    parts: list[ResultPart]
    failures: list[Failure] = []
    started_at: float = 0.0
    """When the model began, monotonic seconds."""


class Leaving(msgspec.Struct, array_like=True, tag=12):
    """This runner wants no more batches; it finishes those it has and waits for `Dismissed`."""


class Dismissed(msgspec.Struct, array_like=True, tag=13):
    """Nothing more will come: the runner may exit."""


Frame: TypeAlias = (
    Attach
    | Submit
    | Cancel
    | Release
    | Answered
    | Rejected
    | ShareSlab
    | DropSlab
    | Join
    | Work
    | Done
    | Leaving
    | Dismissed
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)
_WITH_DESCRIPTOR = frozenset({Attach, Join, ShareSlab})


def descriptors_of(frame: Frame) -> int:
    """How many descriptors travel with this frame: 0 or 1."""
    return 1 if type(frame) in _WITH_DESCRIPTOR else 0


def encode_into(frame: Frame, buffer: bytearray) -> None:
    """Append the frame, header and all, to `buffer`.

    Raises:
        WireError: when it is longer than `MAX_FRAME_BYTES`; the buffer is as it was before.
    """
    start = len(buffer)
    buffer += b"\0\0\0\0"
    _encoder.encode_into(frame, buffer, -1)
    size = len(buffer) - start - HEADER.size
    if size > MAX_FRAME_BYTES:
        del buffer[start:]
        raise WireError(
            f"a frame is too long: expected at most {MAX_FRAME_BYTES} bytes, got {size} in {type(frame).__name__!r}"
        )
    HEADER.pack_into(buffer, start, size)


def decode_frame(body: memoryview) -> Frame:
    """The frame in `body`, which is without its header and is not kept.

    Raises:
        WireError: when it is no frame.
    """
    try:
        frame: Frame = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise WireError(f"a frame of {len(body)} bytes does not decode: {error}") from error
    return frame
