"""OSV data from where they lie: a record, a folder of records, the zip of an export, or a feed's URL.

It judges no record (`osv.py` does). The invariants: reading is bounded, whatever an archive says about itself; a record
that cannot be read ends the scan, because what it would have said is unknown; data without a single record about PyPI
are refused, because they would find nothing in anything.
Source: OSV, "Data dumps": one zip for each ecosystem, one JSON file for each record.
"""

import datetime as dt
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from slipway_bundle.errors import FileError, UsageError
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.scan.errors import FeedError, OsvDataError
from slipway_bundle.scan.osv import ECOSYSTEM, OsvRecord, match
from slipway_bundle.scan.vulnerability import Report, merge

__all__ = ["OSV_SCANNER", "data_size_bytes", "scan_osv"]

OSV_SCANNER: Final = "https://slipway.dev/scan/osv"
"""Names this scanner in reports."""

MAX_RECORD_BYTES: Final = 16 << 20
MAX_RECORDS: Final = 2_000_000
MAX_TOTAL_BYTES: Final = 8 << 30
"""All records, unpacked. The whole of OSV has 600,000 records and 5 GB."""

MAX_FEED_BYTES: Final = 2 << 30
CONNECT_TIMEOUT_S: Final = 10.0
STALL_TIMEOUT_S: Final = 60.0
"""For each read, not for the whole: a slow line is no error."""

_DECODER: Final = msgspec.json.Decoder(OsvRecord)


def data_size_bytes(source: str) -> int:
    """What the progress of `scan_osv` will add up to, where that is known before: 0 for a URL or an unreadable path."""
    path = Path(source)
    try:
        if path.is_dir():
            return sum(entry.stat().st_size for entry in _record_files(path))
        return path.stat().st_size
    except OSError:
        return 0


def scan_osv(
    source: str, packages: Mapping[str, Sequence[str]], *, now: dt.datetime, version: str, progress: Progress = QUIET
) -> Report:
    """Looks up `packages` in OSV data.

    Args:
        source: A record (`.json`), a folder of records, an export (`.zip`), or the URL of an export (https; http only
            for this machine).
        packages: Normalised name -> installed versions.
        now: The time of the scan.
        version: Of this scanner.
        progress: Told the bytes that are read, or downloaded.

    Raises:
        FileError: The path cannot be read.
        FeedError: The URL does not answer, or with an error.
        OsvDataError: A record or the archive is damaged or too large, or nothing is about PyPI.
        UsageError: The URL is not one that may be asked.
    """
    found = []
    updated = ""
    count = 0
    for record in _records(source, progress):
        if record.covers(ECOSYSTEM):
            count += 1
            updated = max(updated, record.modified)
            found += match(record, packages)
    if not count:
        raise OsvDataError(
            f"{source!r} has no record about a package of {ECOSYSTEM}: it would find nothing in anything",
            hint="the export of one ecosystem is a zip of its own; take the one of PyPI",
            path=source,
        )
    return Report(
        scanner=OSV_SCANNER,
        version=version,
        scanned=now,
        updated=min(_time(updated, source), now),
        packages=sum(map(len, packages.values())),
        vulnerabilities=merge(found),
    )


def _records(source: str, progress: Progress) -> Iterator[OsvRecord]:
    if source.startswith(("http://", "https://")):
        with tempfile.TemporaryFile(prefix="slipway-osv-") as file:
            _download(source, file, progress)
            yield from _in_zip(file, source, QUIET)
        return
    path = Path(source)
    try:
        if path.is_dir():
            for entry in _record_files(path):
                yield _record(_bounded(entry), str(entry))
                progress.advance(entry.stat().st_size)
            return
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                yield from _in_zip(file, source, progress)
                return
        yield _record(_bounded(path), source)
    except OSError as error:
        raise FileError(f"{source!r} cannot be read: {error.strerror or error}", path=source) from error


def _record_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if path.is_file())


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_RECORD_BYTES + 1)


def _in_zip(file: IO[bytes], source: str, progress: Progress) -> Iterator[OsvRecord]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".json")]
            total = sum(entry.file_size for entry in entries)
            if len(entries) > MAX_RECORDS or total > MAX_TOTAL_BYTES:
                raise OsvDataError(
                    f"{source!r} is too large: got {len(entries)} records of {total} bytes, "
                    f"expected at most {MAX_RECORDS} of {MAX_TOTAL_BYTES}",
                    path=source,
                )
            for entry in entries:
                with archive.open(entry) as member:  # what it says about its size is checked by reading no more
                    yield _record(member.read(MAX_RECORD_BYTES + 1), f"{source}/{entry.filename}")
                progress.advance(entry.compress_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise OsvDataError(f"{source!r} is no zip that can be read: {error}", path=source) from error


def _record(data: bytes, where: str) -> OsvRecord:
    if len(data) > MAX_RECORD_BYTES:
        raise OsvDataError(f"record {where!r} has more than {MAX_RECORD_BYTES} bytes", path=where)
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OsvDataError(
            f"record {where!r} is no OSV record: {error}", hint="download the data again", path=where
        ) from error


def _time(text: str, source: str) -> dt.datetime:
    try:
        time = msgspec.convert(text, dt.datetime)
    except msgspec.ValidationError as error:
        raise OsvDataError(
            f"{source!r} has no record that says when it was modified: got {text!r}, expected an RFC 3339 time",
            path=source,
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _download(url: str, file: IO[bytes], progress: Progress) -> None:
    import httpx

    host = httpx.URL(url).host
    if url.startswith("http://") and host not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError(
            f"a feed over plain http can be changed on its way: got {url!r}, expected https",
            hint="download it by other means and give the file",
        )
    timeout = httpx.Timeout(STALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    size = 0
    try:
        with httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > MAX_FEED_BYTES:
                    raise OsvDataError(f"{url!r} answers with more than {MAX_FEED_BYTES} bytes", path=url)
                file.write(chunk)
                progress.advance(len(chunk))
    except httpx.HTTPError as error:
        raise FeedError(
            f"{url!r} did not give the data: {error}", hint="give the data as a file where there is no network", url=url
        ) from error
    file.seek(0)
