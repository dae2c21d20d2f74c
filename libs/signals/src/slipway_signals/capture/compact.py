"""Closed segments become Parquet, and what is too old or too much goes: `python -m slipway_signals.capture.compact`.

It runs in a process of its own, beside the serving ones. The invariants: killed at any point it loses nothing and
doubles nothing, and the next run heals; run twice it changes nothing; what a living process writes is never touched.

    python -m slipway_signals.capture.compact FOLDER --retention-days 30 --max-bytes 10000000000
"""

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle.errors import SlipwayError
from slipway_signals.capture.clock import look_at_clock
from slipway_signals.capture.config import CaptureConfig
from slipway_signals.capture.errors import CaptureFolderError
from slipway_signals.capture.folder import CaptureFolder, Partition, files_in, host_name
from slipway_signals.capture.label_state import refresh_labels
from slipway_signals.capture.parts import make_table, require_pyarrow, write_part
from slipway_signals.capture.pseudonyms import KeyRing, key_path
from slipway_signals.capture.records import ModelFormat, Record, decode_record
from slipway_signals.capture.retention import ClockMark, Stored, too_many, too_old
from slipway_signals.capture.segments import SegmentReader
from slipway_signals.capture.transactions import Transaction, recover

__all__ = ["CompactReport", "compact", "pack_segments"]

logger = logging.getLogger(__name__)

WAIT_S: Final = 30.0
"""For another process that is at work in the folder."""
BATCH_BYTES: Final = 16_000_000
"""Segments that become parts in one step; a step needs about ten times as much memory."""

CLOCK_DOUBTED: Final = "the clock has moved by more than a week since the last run, and is doubted for three days"

Groups = dict[tuple[Partition, str], tuple[ModelFormat, list[Record]]]


class CompactReport(Struct, frozen=True, kw_only=True):
    """What a compaction did."""

    rows: int = 0
    """Requests that are in Parquet now."""
    parts: int = 0
    segments: int = 0
    taken_over: int = 0
    """Segments that dead processes had left open."""
    lost_bytes: int = 0
    """Behind the last whole record of a segment: what its process was writing when it died."""
    expired: int = 0
    """Parts that were older than the retention."""
    held: int = 0
    """Parts that are older than the retention if the clock is right, which is doubted."""
    evicted: int = 0
    """Parts that went for the byte cap."""


def compact(
    root: Path, config: CaptureConfig, now: float, *, timeout_s: float = WAIT_S, trust_clock: bool = False
) -> CompactReport:
    """Make Parquet of what is closed in `root`; then apply retention and byte cap; then give an old key its successor.

    Args:
        root: A capture folder.
        config: `retention_days`, `max_bytes`, `key_days` and `key_file` are used.
        now: Seconds since the epoch. When it is a week or more from the last run, nothing is too old for three days.
        timeout_s: How long to wait for another process that is at work in the folder.
        trust_clock: `now` is right, however far it is from the last run.

    Raises:
        CaptureExtraError: pyarrow is not installed.
        CaptureFolderError: The folder cannot be used, or its disk is full; nothing is lost by that.
        CaptureBusyError: Another process has been at work for `timeout_s`.
    """
    require_pyarrow()
    folder = CaptureFolder.existing(root)
    with folder.exclusive(timeout_s), disk_words(folder):
        recover(folder)
        clock = look_at_clock(folder, now, is_trusted=trust_clock)
        expired, held = _expire(folder, config, clock, now)
        report = pack_segments(folder)
        evicted = _evict(folder, config)
        keys = key_path(folder.root, config.key_file)
        if keys.exists():
            KeyRing(keys).rotate(clock.age_s, key_days=config.key_days, keep_days=config.retention_days)
        refresh_labels(folder, config, clock.age_s)
    return msgspec.structs.replace(report, expired=expired, held=held, evicted=evicted)


def pack_segments(folder: CaptureFolder, *, compression: str = "zstd") -> CompactReport:
    """All closed segments, and those of dead processes, as Parquet. The caller holds the lock and has recovered."""
    taken = folder.take_over()
    report = CompactReport(taken_over=taken)
    waiting = folder.closed()
    while waiting:
        batch: list[Path] = []
        size = 0
        while waiting and (not batch or size < BATCH_BYTES):
            batch.append(waiting.pop(0))
            size += batch[-1].stat().st_size
        step = _pack(folder, batch, compression)
        report = msgspec.structs.replace(
            report,
            rows=report.rows + step.rows,
            parts=report.parts + step.parts,
            segments=report.segments + step.segments,
            lost_bytes=report.lost_bytes + step.lost_bytes,
        )
    return report


@contextlib.contextmanager
def disk_words(folder: CaptureFolder) -> Iterator[None]:
    """Turn an `OSError` of the body into a `CaptureFolderError`."""
    try:
        yield
    except OSError as error:
        raise CaptureFolderError(
            f"the disk of {str(folder.root)!r} refused: {error.strerror or error}",
            hint="nothing was lost: what was not finished is done by the next run, once there is room",
            path=str(error.filename or folder.root),
        ) from error


def _pack(folder: CaptureFolder, segments: list[Path], compression: str) -> CompactReport:
    groups, lost = _read(segments)
    taken: set[Path] = set()
    with Transaction(folder) as change:
        for (partition, _), (model, records) in groups.items():
            target = _next_part(folder.data / partition.path, taken)
            write_part(change.stage(target), make_table(model, records), compression=compression)
        change.delete(segments)
    rows = sum(len(records) for _, records in groups.values())
    return CompactReport(rows=rows, parts=len(taken), segments=len(segments), lost_bytes=lost)


def _read(segments: list[Path]) -> tuple[Groups, int]:
    """The records of the segments by partition and format, and the bytes that belong to none."""
    groups: Groups = {}
    lost = 0
    for path in segments:
        formats: dict[int, ModelFormat] = {}
        reader = SegmentReader(path)
        for body in reader.bodies():
            try:
                found = decode_record(body)
            except msgspec.MsgspecError:
                logger.warning("capture_frame_unreadable", extra={"segment": path.name})
                lost += len(body)
                continue
            if isinstance(found, ModelFormat):
                formats[found.place] = found
            elif (model := formats.get(found.model)) is not None:
                partition = Partition.of(model.model, model.version, found.ts)
                groups.setdefault((partition, _identity(model)), (model, []))[1].append(found)
            else:
                lost += len(body)
        if reader.lost_bytes:
            logger.warning("capture_segment_torn", extra={"segment": path.name, "lost_bytes": reader.lost_bytes})
            lost += reader.lost_bytes
    return groups, lost


def _identity(model: ModelFormat) -> str:
    """What must be equal for two records to share a part: everything that its footer says."""
    return msgspec.json.encode(msgspec.structs.replace(model, place=0)).decode()


def _next_part(partition: Path, taken: set[Path]) -> Path:
    """The next free name in a partition, the ones of this step included."""
    present = [path.name for path in files_in(partition, ".parquet")] if partition.is_dir() else []
    present += [path.name for path in taken if path.parent == partition]
    numbers = [int(digits) for name in present if (digits := name[:-8].rpartition("-")[2]).isdigit()]
    target = partition / f"part-{host_name()}-{max(numbers, default=0) + 1:06d}.parquet"
    taken.add(target)
    return target


def _expire(folder: CaptureFolder, config: CaptureConfig, clock: ClockMark, now: float) -> tuple[int, int]:
    """Delete what is too old; gives how many parts that were, and how many more if the clock is right."""
    parts = _stored(folder)
    gone, told = (
        too_old(parts, datetime.fromtimestamp(time_s, UTC), config.retention_days) for time_s in (clock.age_s, now)
    )
    return _delete(folder, gone), max(0, len(told) - len(gone))


def _evict(folder: CaptureFolder, config: CaptureConfig) -> int:
    parts = _stored(folder)
    others = (folder.open_segments, folder.closed_segments, folder.receipts, folder.root)
    occupied = sum(path.stat().st_size for place in others for path in files_in(place))
    return _delete(folder, too_many(parts, config.max_bytes - occupied))


def _stored(folder: CaptureFolder) -> list[Stored]:
    found = (Stored.of(path.relative_to(folder.data), path.stat().st_size) for path in folder.parts())
    return [part for part in found if part is not None]


def _delete(folder: CaptureFolder, gone: list[Stored]) -> int:
    with Transaction(folder) as change:
        change.delete(folder.data / part.path for part in gone)
    return len(gone)


def main(arguments: list[str] | None = None) -> int:
    """The program: one JSON line of what was done on stdout, or an error on stderr and its exit status."""
    parser = argparse.ArgumentParser(prog="python -m slipway_signals.capture.compact", description=compact.__doc__)
    defaults = CaptureConfig()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--retention-days", type=int, default=defaults.retention_days)
    parser.add_argument("--max-bytes", type=int, default=defaults.max_bytes)
    parser.add_argument("--key-days", type=int, default=defaults.key_days)
    parser.add_argument("--key-file")
    parser.add_argument("--trust-clock", action="store_true")
    given = parser.parse_args(arguments)
    config = msgspec.structs.replace(
        defaults,
        retention_days=given.retention_days,
        max_bytes=given.max_bytes,
        key_days=given.key_days,
        key_file=given.key_file,
    )
    try:
        report = compact(given.folder, config, time.time(), trust_clock=given.trust_clock)
    except SlipwayError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    if report.held:
        sys.stderr.write(f"{report.held} parts would be too old, and are kept: {CLOCK_DOUBTED}\nhint: --trust-clock\n")
    return 1 if report.held else 0


if __name__ == "__main__":
    sys.exit(main())
