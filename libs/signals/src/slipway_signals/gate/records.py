"""What a load run, or a split of traffic, counts in one window: the only thing that the gate judges.

It judges nothing and asks no clock. The invariant: a count is of its window only, so windows add up in any order, and
whoever writes windows (the load process, the splitter, a simulation) is judged by the same gate.
Times are seconds since the start of the run, latencies whole microseconds from the intended send time (a stall of the
server is counted in full: no coordinated omission, Tene 2013).
"""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from slipway_signals.gate.histogram import Histogram, Sketch

__all__ = ["ARMS", "Arm", "Counts", "Generator", "Pairs", "Scrape", "Window", "decode_window", "encode_window"]

Arm = Literal["stable", "candidate"]

ARMS: Final[tuple[Arm, ...]] = ("stable", "candidate")


class Counts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One arm in one window."""

    sent: int = 0
    succeeded: int = 0
    failed: dict[str, int] = {}
    """Reason -> count: `http_500`, `http_429`, `timeout`, `connection`, `grpc_UNAVAILABLE`, …"""

    latency_us: Histogram = field(default_factory=Histogram)
    """Of the succeeded, from the intended send time."""

    first_sent: int = 0
    """How often this arm was asked first of a pair."""

    digests: dict[str, int] = {}
    """Who answered: digest of the bundle -> count; "" did not say."""

    malformed: int = 0
    """Answers that do not decode, miss a field of the schema, or hold NaN or null where a number belongs."""

    outputs: dict[str, Sketch] = {}
    """Numeric field of the answer -> its distribution."""

    labels: dict[str, dict[str, int]] = {}
    """String or bool field of the answer -> value -> count; at most 50 values, the rest under `other`."""

    labelled: int = 0
    """Inputs whose right answer is known."""

    correct: int = 0
    """Of the labelled."""


class Pairs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs that both arms were asked and answered."""

    compared: int = 0
    disagreed: dict[str, int] = {}
    """Field of the answer -> pairs that differ by more than the tolerance of the plan."""


class Generator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The health of who asks: an answer that came late because the asker was late says nothing about an arm."""

    offered: int = 0
    """Due in this window."""

    dropped: int = 0
    """Of those, not sent: too many were in flight."""

    slip_us: Histogram = field(default_factory=Histogram)
    """How much later than intended a request was sent."""

    cpu_share: float = 0.0
    """Of one core, of the busiest worker."""

    sockets: int = 0
    sockets_limit: int = 0
    """0 where nothing limits them."""

    clock_offset_s: float | None = None
    """The workers' clocks against the master's, the largest; None with one process."""


class Scrape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One arm's own figures at the end of a window, from its admin port; None where the series is not there.

    Counters grow from a zero that is anywhere: two of one run can be compared, one alone says nothing. Where several
    processes answer for the arm, they are what was seen to grow of all of them (`scraping.ArmScrapes`).
    """

    ok: bool
    problem: str | None = None
    """Why it is not ok."""

    cpu_s: float | None = None
    """Processor time, a counter."""

    cpu_wait_s: float | None = None
    """Time in which it could have run and no processor was free, a counter."""

    requests: float | None = None
    """Requests, a counter."""

    in_flight: float | None = None
    queue_rows: float | None = None
    gpu_utilisation: float | None = None
    """0 … 1."""

    cost_usd: float | None = None
    """A counter."""

    skew_s: float | None = None
    """The server's clock less ours, from the `Date` of its answer (whole seconds)."""

    processes: int | UnsetType = UNSET
    """How many processes have answered for the arm until now, where there were several."""


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stretch of time in which a run counted; one line of JSON."""

    index: int
    """From 0, without gaps."""

    begin_s: float
    end_s: float
    is_warm_up: bool = False
    """Warm-up is kept in the evidence and judged by nobody."""

    arms: dict[Arm, Counts]
    pairs: Pairs = field(default_factory=Pairs)
    generator: Generator = field(default_factory=Generator)
    scrapes: dict[Arm, Scrape] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Window)


def encode_window(window: Window) -> bytes:
    """One line, without its line feed."""
    return _encoder.encode(window)


def decode_window(line: bytes | str) -> Window:
    """The window of one line.

    Raises:
        msgspec.ValidationError: Another shape; the message names the path.
        msgspec.DecodeError: Not JSON.
    """
    return _decoder.decode(line)
