"""What is remembered of answered rows beside counts: the bins of drift, and captured requests. Off unless configured.

It changes no answer and waits for nothing. The invariants: synthetic traffic is left out, but that its rows
are counted as such; a row is seen once, where its
answer is given to whoever asked (a path of its own, an endpoint, the Open Inference Protocol), in any lane.
"""

import itertools
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from slipway_bundle import Arrays, BundleView, RowCodec, RowError
from slipway_runtime import Answer
from slipway_serve.config import RuntimeConfig, ServerConfig
from slipway_serve.declarations import Model
from slipway_serve.problems import problem_of
from slipway_signals import metrics
from slipway_signals.capture.config import CaptureConfig
from slipway_signals.capture.sampling import row_id
from slipway_signals.slots import Counter, Slots
from slipway_signals.traces_record import current_trace

if TYPE_CHECKING:
    from slipway_serve.lane import Lane, Outputs, Payload
    from slipway_signals.capture import CaptureLog
    from slipway_signals.drift import DriftCounters


class RequestFacts(Struct, gc=False):
    """What watchers need to know of a request. Not frozen: it numbers its rows."""

    request_id: str
    """The client's `X-Request-Id`, or one made here."""
    subject: str | None
    """The person it is about, as `runtime.capture.subject_header` says."""
    is_synthetic: bool
    started: float
    """On `time.monotonic()`."""
    rows: int = 0
    """Numbered so far."""

    def next_rows(self, count: int) -> range:
        """The numbers of its next rows, from 0; `row_id` makes names of them."""
        first, self.rows = self.rows, self.rows + count
        return range(first, self.rows)


logger = logging.getLogger(__name__)

ID_HEADER: Final = b"x-request-id"
PLAIN: Final = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
"""What a client may call its request; it is echoed in a header, written into files and looked for in labels."""
SYNTHETIC_HEADER: Final = b"x-slipway-synthetic"
BUNDLE_HEADER: Final = b"x-slipway-bundle"
"""In the answer to a believed synthetic request: which bundle answered."""
SYNTHETIC: Final[Mapping[str, str]] = {SYNTHETIC_HEADER.decode(): "1"}
"""What is sent along where a synthetic request makes us ask another server."""

current_request: Final[ContextVar[RequestFacts | None]] = ContextVar("slipway_request", default=None)
"""Of the request that this task answers; set by its route, and only if somebody watches or it is synthetic."""


class Naming:
    """Tells requests apart: an id for each, and which of them are no user's.

    Args:
        wants_ids: whether answers carry `X-Request-Id`; the caller's where it sent one.
        subject_header: lower-case name of the header with the person a request is about; None: there is none.
        trusts_synthetic: whether `X-Slipway-Synthetic` is believed.
    """

    def __init__(self, *, wants_ids: bool, subject_header: str | None, trusts_synthetic: bool) -> None:
        self._wants_ids = wants_ids
        self._subject_header = None if subject_header is None else subject_header.lower().encode()
        self._trusts_synthetic = trusts_synthetic
        self._prefix = uuid.uuid4().hex[:20]
        self._count = itertools.count()

    def begin(self, headers: Mapping[bytes, bytes], started: float, number: int = 0) -> None:
        """A request came: the `number`-th, from 0, of those in one call. HOT where it is switched on."""
        is_synthetic = self._trusts_synthetic and SYNTHETIC_HEADER in headers
        if not (self._wants_ids or is_synthetic):
            return
        name = self._name(headers)
        subject = None if self._subject_header is None else headers.get(self._subject_header)
        current_request.set(
            RequestFacts(
                f"{name}.{number}" if number else name,
                None if subject is None else subject.decode("latin-1"),
                is_synthetic,
                started,
            )
        )

    def settle(self, headers: dict[bytes, bytes]) -> tuple[bytes, bytes] | None:
        """Name a call of many requests once and for all: they are called `NAME`, `NAME.1`, …; the header that says so.

        Without it a caller that sent no name would get another one for each request.
        """
        if not self._wants_ids:
            return None
        headers[ID_HEADER] = self._name(headers).encode()
        return ID_HEADER, headers[ID_HEADER]

    def _name(self, headers: Mapping[bytes, bytes]) -> str:
        """The caller's, or one that no other process gives: a random number of this one, and a count.

        `uuid4` takes 2 us more.
        """
        sent = headers.get(ID_HEADER, b"")
        return sent.decode("ascii") if sent and PLAIN.fullmatch(sent) else f"{self._prefix}{next(self._count):012x}"

    def header(self) -> tuple[bytes, bytes] | None:
        """The header that tells the client how its request is called."""
        request = current_request.get() if self._wants_ids else None
        return None if request is None else (ID_HEADER, request.request_id.encode())


class RowWatch:
    """Watches the rows of one model.

    Args:
        model: its name.
        drift: counts them into bins; None: the bundle has no reference profile.
        capture: keeps a share of them; None: switched off.
        synthetic: counts rows of tests and probes; None: nobody is believed to send any.
    """

    def __init__(
        self,
        model: str,
        drift: "DriftCounters | None",
        capture: "CaptureLog | None",
        synthetic: Counter | None = None,
    ) -> None:
        self._model = model
        self._drift = drift
        self._capture = capture
        self._synthetic = synthetic

    def answered(self, payload: "Payload", rows: int, key: bytes, answer: Answer, outputs: "Outputs") -> None:
        """Packed rows were answered. HOT."""
        request = current_request.get()
        if request is not None and request.is_synthetic:
            if self._synthetic is not None:
                self._synthetic.inc(rows)
        elif self._drift is not None:
            try:
                self._drift.observe(payload, rows, outputs.arrays, answer.start, key)
            except Exception:  # our bug must not cost an answer, nor a log line for each
                logger.exception("drift of model %s is not counted any more", self._model)
                self._drift = None

    def kept(self, row: Struct, result: object) -> None:
        """The same of a row and its answer as they were written down in Python."""
        if self._capture is not None:
            self._offer(row, result, 200)

    def kept_columns(self, codec: RowCodec[Any], arrays: Arrays, results: Sequence[object]) -> None:
        """The same of rows that came as columns, and of their answers."""
        if self._capture is not None:
            self._offer_columns(codec, arrays, len(results), results, 200)

    def failed(self, rows: Sequence[Struct], error: Exception) -> None:
        """Rows were given no answer."""
        if self._capture is not None and (status := problem_of(error).status) >= 500:
            for row in rows:
                self._offer(row, None, status)

    def failed_columns(self, codec: RowCodec[Any], arrays: Arrays, rows: int, error: Exception) -> None:
        """The same of rows that came as columns."""
        if self._capture is not None and (status := problem_of(error).status) >= 500:
            self._offer_columns(codec, arrays, rows, (), status)

    def _offer(self, row: Struct, result: object, status: int) -> None:
        request = current_request.get()
        if self._capture is None or request is None or request.is_synthetic:
            return
        number = request.rows
        request.rows = number + 1
        name = row_id(request.request_id, number) if number else request.request_id
        latency_s, trace_id = time.monotonic() - request.started, _trace_id(status)
        self._capture.offer(self._model, name, request.subject, row, result, status, latency_s, trace_id, time.time())

    def _offer_columns(
        self, codec: RowCodec[Any], arrays: Arrays, rows: int, results: Sequence[object], status: int
    ) -> None:
        """Choose by number first: a row that is left out is never made."""
        request = current_request.get()
        capture = self._capture
        if capture is None or request is None or request.is_synthetic:
            return
        numbers = request.next_rows(rows)
        chosen = capture.choose(self._model, request.request_id, numbers, results, status)
        if not chosen:
            return
        places = [number - numbers.start for number in chosen]
        latency_s, trace_id, now = time.monotonic() - request.started, _trace_id(status), time.time()
        try:
            made = codec.given_rows({name: array[places] for name, array in arrays.items()})
        except Exception as error:  # noqa: BLE001  # our bug must not cost an answer; `lose` says it
            capture.lose(self._model, len(chosen), error)
            return
        for number, place, row in zip(chosen, places, made, strict=True):
            if isinstance(row, RowError):  # its own `__post_init__` refused it, which tensors do not ask
                capture.lose(self._model, 1, row)
                continue
            name, result = row_id(request.request_id, number), results[place] if results else None
            capture.offer(self._model, name, request.subject, row, result, status, latency_s, trace_id, now)


class Watching:
    """The watchers of one service in one process.

    Args:
        view: its bundle or folder, with the reference profiles.
        models: declared ones, by name.
        config: `[runtime]`.
        slots: of the process.

    Raises:
        SlipwayError: capture cannot be done as configured.
    """

    def __init__(
        self, view: BundleView, models: Mapping[str, Model[Any, Any]], config: RuntimeConfig, slots: Slots
    ) -> None:
        self._view = view
        self._slots = slots
        self._trusts_synthetic = config.server.trust_synthetic
        self._drift: list[DriftCounters] = []
        self._capture = _capture_of(view, models, config.capture, slots) if config.capture.enabled else None

    def of(self, lane: "Lane") -> RowWatch | None:
        """The watcher of a lane; None when there is nothing to watch for.

        Raises:
            ProfileError: the reference profile does not fit the model's rows.
        """
        drift = None
        profile = self._view.references.get(lane.name)
        if profile is None and (named := self._view.models[lane.name].config.reference) is not None:
            logger.warning(
                "drift of model %s is not counted: %s is not there; the training writes it", lane.name, named
            )
        if profile is not None:
            from slipway_signals.drift import DriftCounters, decode_profile

            drift = DriftCounters(self._slots, lane.name, decode_profile(profile), lane.inputs)
            self._drift.append(drift)
        synthetic = self._slots.counter(metrics.SYNTHETIC_ROWS, lane.name) if self._trusts_synthetic else None
        if drift is None and self._capture is None and synthetic is None:
            return None
        return RowWatch(lane.name, drift, self._capture, synthetic)

    def flush(self) -> None:
        """Count what is buffered; once a second."""
        for drift in self._drift[:]:
            try:
                drift.flush()
            except Exception:  # as in `RowWatch.answered`: this runs in the server's own tick
                logger.exception("drift is not counted any more")
                self._drift.remove(drift)

    def close(self, timeout_s: float) -> None:
        """Count and store what is buffered. Blocks."""
        self.flush()
        if self._capture is not None:
            self._capture.close(timeout_s)


def is_synthetic() -> bool:
    """Whether the request that this task answers is of a test or a probe."""
    request = current_request.get()
    return request is not None and request.is_synthetic


def naming_of(runtimes: Sequence[RuntimeConfig], server: ServerConfig) -> Naming | None:
    """How the requests of a server are told apart; None when nobody wants to know.

    Its services agree on it (agreement.py).
    """
    captured = [runtime.capture for runtime in runtimes if runtime.capture.enabled]
    if not captured and not server.trust_synthetic:
        return None
    subjects = (capture.subject_header for capture in captured if capture.subject_header is not None)
    return Naming(
        wants_ids=bool(captured), subject_header=next(subjects, None), trusts_synthetic=server.trust_synthetic
    )


def _trace_id(status: int) -> str | None:
    """The trace in which this task's request will be found; None where it is likely not kept."""
    trace = current_trace.get()
    if trace is None or not (trace.is_sampled or status >= 500):
        return None
    return f"{trace.ids()[0]:032x}"


def _capture_of(
    view: BundleView, models: Mapping[str, Model[Any, Any]], config: CaptureConfig, slots: Slots
) -> "CaptureLog":
    from slipway_signals.capture import CapturedModel, CaptureLog

    version = view.digest or view.version
    log = CaptureLog(
        config,
        [
            CapturedModel(name=name, version=version, takes=model.row, gives=model.answer)
            for name, model in models.items()
        ],
        slots,
    )
    log.start()
    return log
