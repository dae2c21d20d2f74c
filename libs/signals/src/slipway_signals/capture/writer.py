"""The side of capture that has time: redacts, encodes and appends records to segments, in a thread of its own.

It decides nothing about sampling and waits for nobody (`log`). The invariants: a record is redacted before its first
byte reaches a file; one that cannot be stored is counted and harms no other; while the disk refuses, records are
counted and given up, and serving notices nothing; no segment stays open longer than `segment_s`.
"""

import errno
import logging
from collections import deque
from typing import Any, Final, NamedTuple

from msgspec import structs

from slipway_signals.capture.config import CaptureConfig
from slipway_signals.capture.errors import CaptureFolderError
from slipway_signals.capture.folder import SEGMENT_SUFFIX, CaptureFolder, WriterFile, files_in
from slipway_signals.capture.plans import Plan
from slipway_signals.capture.projection import Redactor
from slipway_signals.capture.pseudonyms import KeyRing, key_path
from slipway_signals.capture.records import Record, encode_format, encode_record
from slipway_signals.capture.segments import SegmentWriter, frame_of
from slipway_signals.slots import Counter

__all__ = ["Offered", "Outcomes", "Writer"]

logger = logging.getLogger(__name__)

SYNC_S: Final = 5.0
"""What the death of the machine, not of the process, may lose of an open segment."""
RETRY_S: Final = 5.0
"""How long the disk is left alone after it refused."""
MAX_RECORD_BYTES: Final = 1_000_000
"""A longer record keeps its head and loses its values."""
MAX_ID: Final = 256
"""Characters of a request's id, which its client may have chosen."""
_CHUNK_BYTES: Final = 1_000_000
_LATEST_S: Final = 4_102_444_800.0
"""The year 2100: what claims to be later has a broken clock, and would never be deleted by its age."""


class Offered(NamedTuple):
    """A request that was chosen, as it waits in the ring."""

    plan: Plan
    request_id: str
    subject: str | None
    row: Any
    answer: Any
    status: int
    latency_s: float
    trace_id: str | None
    ts: float
    kept: int
    weight: float
    size: int


class Outcomes(NamedTuple):
    """Counters of one model that only the writing thread changes."""

    written: Counter
    failed: Counter
    written_bytes: Counter


class Writer:
    """Appends to segments of one folder. Not thread-safe: all calls come from one thread.

    Args:
        config: With a folder.
        redactor: The one that the plans were built with.
        outcomes: Counters by model.
        now: Seconds since the epoch, for the first key.

    Raises:
        CaptureFolderError: The folder or its key file cannot be used.
    """

    def __init__(
        self,
        config: CaptureConfig,
        folder: CaptureFolder,
        redactor: Redactor,
        outcomes: dict[str, Outcomes],
        now: float,
    ) -> None:
        self._config = config
        self._folder = folder
        self._redactor = redactor
        self._outcomes = outcomes
        self._keys = key_path(folder.root, config.key_file)
        redactor.pseudonyms = KeyRing.open(self._keys, now).newest
        self._claim = WriterFile(folder)
        self._epoch = folder.epoch
        self._segment: SegmentWriter | None = None
        self._formats: dict[Plan, int] = {}
        self._places = 0
        self._segments = 0
        self._synced = 0.0
        self._blocked_until = float("-inf")
        self._is_synced = True
        self._chunk = bytearray()
        self._pending: list[tuple[Outcomes, int]] = []

    def turn(self, ring: deque[Offered], now: float) -> int:
        """Store all that waits in `ring`; gives the bytes of memory that were freed. `now` is `time.monotonic()`.

        Never raises because of a record or the disk.
        """
        try:  # before the ring is emptied: what is offered later is from after the forget
            epoch = self._folder.epoch
        except OSError as error:
            epoch = self._epoch
            self._refused(error, now)
        freed = 0
        for _ in range(len(ring)):
            offered = ring.popleft()
            freed += offered.size
            self._store(offered, now)
        self._flush(now)
        self._tidy(epoch, now)
        return freed

    def close(self, ring: deque[Offered], now: float) -> None:
        """Store what waits, close the segment and give the folder back."""
        self.turn(ring, now)
        self._close_segment(now)
        self._claim.close()

    def _store(self, offered: Offered, now: float) -> None:
        """Encode one record into the chunk; the disk sees it with the chunk."""
        outcomes = self._outcomes[offered.plan.name]
        if now < self._blocked_until or not self._is_open(now):
            outcomes.failed.inc()
            return
        try:
            frames = self._frames(offered)
        except Exception as error:  # noqa: BLE001 - the values are a model team's; one that cannot be stored is counted
            logger.debug("capture_record_failed", extra={"model": offered.plan.name, "error": type(error).__name__})
            outcomes.failed.inc()
            return
        self._chunk += frames
        self._pending.append((outcomes, len(frames)))
        if len(self._chunk) >= _CHUNK_BYTES:
            self._flush(now)

    def _frames(self, offered: Offered) -> bytes:
        """The frame of one record, and before it the frame of its format where the segment has none yet."""
        plan, redactor = offered.plan, self._redactor
        if not 0.0 <= offered.ts < _LATEST_S:
            raise ValueError(f"the time {offered.ts} is not between 1970 and 2100")
        place = self._formats.get(plan)
        redactor.is_cut = len(offered.request_id) > MAX_ID
        subject = offered.subject
        if subject is None and plan.subject is not None and offered.row is not None:
            subject = plan.subject(offered.row)
        record = Record(
            model=self._places if place is None else place,
            ts=offered.ts,
            request_id=redactor.text(offered.request_id[:MAX_ID]),
            trace_id=None if offered.trace_id is None else redactor.text(offered.trace_id[:MAX_ID]),
            subject_key=None if subject is None else redactor.pseudonym(subject),
            status=int(offered.status),
            latency_s=float(offered.latency_s),
            kept=offered.kept,
            sample_weight=offered.weight,
            is_cut=False,
            features=None if offered.row is None else plan.features.values(offered.row),
            prediction=None if offered.answer is None else plan.prediction.values(offered.answer),
        )
        record.is_cut = redactor.is_cut
        body = encode_record(record)
        if len(body) > MAX_RECORD_BYTES:
            record.is_cut, record.features, record.prediction = True, None, None
            body = encode_record(record)
        if place is not None:
            return frame_of(body)
        self._formats[plan] = self._places
        self._places += 1
        return frame_of(encode_format(structs.replace(plan.format, place=record.model))) + frame_of(body)

    def _flush(self, now: float) -> None:
        """Give the chunk to the kernel, whole or not at all."""
        if not self._pending or self._segment is None:
            return
        try:
            self._segment.append(bytes(self._chunk))
        except OSError as error:
            self._refused(error, now)
        else:
            self._is_synced = False
            for outcomes, size in self._pending:
                outcomes.written.inc()
                outcomes.written_bytes.inc(size)
        self._pending.clear()
        self._chunk.clear()

    def _is_open(self, now: float) -> bool:
        """Whether there is a segment to write to; one is opened where there is none."""
        if self._segment is not None:
            return True
        try:
            self._refuse_backlog()
            pseudonyms = KeyRing(self._keys).newest
            self._segments += 1
            name = f"{self._claim.name}-{self._segments:06d}{SEGMENT_SUFFIX}"
            folder = self._folder
            self._segment = SegmentWriter(folder.open_segments / name, folder.closed_segments / name, now)
            self._redactor.pseudonyms = pseudonyms
        except (OSError, CaptureFolderError) as error:
            self._refused(error, now)
            return False
        self._formats.clear()
        self._synced = now
        return True

    def _refuse_backlog(self) -> None:
        """Closed segments become Parquet, which the byte cap holds; where nobody compacts they would fill the disk."""
        waiting = sum(path.stat().st_size for path in files_in(self._folder.closed_segments))
        if waiting >= self._config.max_bytes:
            raise OSError(errno.EDQUOT, f"{waiting} bytes wait for compaction, `max_bytes` is {self._config.max_bytes}")

    def _refused(self, error: Exception, now: float) -> None:
        """The disk said no: what waits for it fails, and it is left alone for a while."""
        for outcomes, _ in self._pending:
            outcomes.failed.inc()
        self._formats.clear()  # a format may have been among what was refused: it is written again
        if now >= self._blocked_until + RETRY_S:
            logger.warning("capture_disk_refused", extra={"folder": str(self._folder.root), "error": str(error)})
        self._blocked_until = now + RETRY_S

    def _tidy(self, epoch: int, now: float) -> None:
        """Sync what was written, and close what is long, old, or from before a forget."""
        segment = self._segment
        if segment is not None:
            is_due = segment.size >= self._config.segment_bytes or now - segment.opened >= self._config.segment_s
            if is_due or epoch != self._epoch:
                self._close_segment(now)
            elif not self._is_synced and now - self._synced >= SYNC_S:
                self._sync(segment, now)
        if epoch != self._epoch and self._segment is None:
            self._claim.acknowledge(epoch)
            self._epoch = epoch

    def _sync(self, segment: SegmentWriter, now: float) -> None:
        try:
            segment.sync()
        except OSError as error:
            self._refused(error, now)
        self._synced, self._is_synced = now, True

    def _close_segment(self, now: float) -> None:
        if self._segment is None:
            return
        try:
            self._segment.close()
        except (FileNotFoundError, NotADirectoryError) as error:  # somebody deleted it under us: nothing to close
            self._refused(error, now)
            self._segment.abandon()
            self._segment = None
        except OSError as error:
            self._refused(error, now)  # and tried again with the next turn
        else:
            self._segment = None
