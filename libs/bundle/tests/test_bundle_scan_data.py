"""OSV data from files, archives and feeds: found where they are, refused where they cannot be believed."""

import datetime as dt
import http.server
import json
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from scan_samples import NOW, record, write_export, write_records
from store_fakes import Recorder

from slipway_bundle.errors import FileError, UsageError
from slipway_bundle.scan import osv_data
from slipway_bundle.scan.errors import FeedError, OsvDataError
from slipway_bundle.scan.osv_data import data_size_bytes, scan_osv
from slipway_bundle.scan.vulnerability import Report

PACKAGES = {"numpy": ("2.0.1",)}


def scan(source: object, **more: object) -> Report:
    return scan_osv(str(source), PACKAGES, now=NOW, version="1", **more)  # type: ignore[arg-type]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[str]:
    """The address of a real server that has `all.zip` and `broken.zip`."""
    write_export(tmp_path / "all.zip", record())
    (tmp_path / "broken.zip").write_bytes(b"<html>not here</html>")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_a_record_a_folder_and_an_export_give_the_same_answer(tmp_path: Path) -> None:
    folder = write_records(tmp_path / "records" / "deep", record()).parent
    export = write_export(tmp_path / "all.zip", record())
    single = folder / "deep" / "GHSA-wxyz-2345-6789.json"

    first, *others = [scan(source) for source in (folder, export, single)]

    assert [item.id for item in first.vulnerabilities] == ["CVE-2031-1001"]
    assert others == [first, first]


def test_the_report_says_how_old_the_data_are(tmp_path: Path) -> None:
    newer = record("A-2031-1", name="other", modified="2031-05-19T23:00:00Z")

    report = scan(write_records(tmp_path, record(), newer))

    assert report.scanned == NOW
    assert report.updated == dt.datetime(2031, 5, 19, 23, tzinfo=dt.UTC)
    assert report.packages == 1


def test_a_feed_is_read_from_its_url(feed: str) -> None:
    progress = Recorder()

    report = scan(f"{feed}/all.zip", progress=progress)

    assert [item.package for item in report.vulnerabilities] == ["numpy"]
    assert progress.bytes > 0


def test_a_feed_that_does_not_answer_is_no_answer(feed: str) -> None:
    with pytest.raises(FeedError, match="404"):
        scan(f"{feed}/nothing.zip")
    with pytest.raises(OsvDataError, match="no zip"):
        scan(f"{feed}/broken.zip")


def test_a_feed_over_plain_http_is_refused_beyond_this_machine() -> None:
    with pytest.raises(UsageError, match="plain http"):
        scan("http://osv.example.com/all.zip")


def test_a_feed_that_does_not_end_is_cut(feed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osv_data, "MAX_FEED_BYTES", 100)

    with pytest.raises(OsvDataError, match="more than 100 bytes"):
        scan(f"{feed}/all.zip")


def test_data_about_nothing_are_refused(tmp_path: Path) -> None:
    """An empty folder, or another ecosystem's export, would find nothing in anything."""
    other = record()
    other["affected"][0]["package"]["ecosystem"] = "npm"

    for source in (write_records(tmp_path / "empty"), write_export(tmp_path / "npm.zip", other)):
        with pytest.raises(OsvDataError, match="no record about a package of PyPI"):
            scan(source)


def test_a_path_that_is_not_there_is_an_error_of_this_machine(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nothing\.zip"):
        scan(tmp_path / "nothing.zip")


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"id": 7}',
        b'{"modified": "2031-05-19T00:00:00Z"}',
        b'{"id": "X", "affected": {"package": 1}}',
        b'{"id": "X", "affected": ' + b"[" * 100_000,
        json.dumps(record() | {"aliases": "CVE-1"}).encode(),
    ],
)
def test_a_damaged_record_ends_the_scan(tmp_path: Path, damaged: bytes) -> None:
    write_records(tmp_path, record())
    (tmp_path / "zz.json").write_bytes(damaged)

    with pytest.raises(OsvDataError, match=r"zz\.json"):
        scan(tmp_path)


def test_a_record_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osv_data, "MAX_RECORD_BYTES", 200)

    with pytest.raises(OsvDataError, match="more than 200 bytes"):
        scan(write_export(tmp_path / "all.zip", record()))


def test_an_archive_that_lies_about_a_size_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory says ten bytes; the member unpacks to 50 MB."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", b" " * 50_000_000)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 10)
    path.write_bytes(data)

    with pytest.raises(OsvDataError):
        scan(path)


def test_an_archive_of_too_many_bytes_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osv_data, "MAX_TOTAL_BYTES", 1_000)

    with pytest.raises(OsvDataError, match="too large"):
        scan(write_export(tmp_path / "all.zip", record(), record("PYSEC-2031-1")))


def test_records_without_a_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OsvDataError, match="when it was modified"):
        scan(write_records(tmp_path, record(modified="yesterday")))


def test_progress_adds_up_to_what_was_announced(tmp_path: Path) -> None:
    folder = write_records(tmp_path, record(), record("PYSEC-2031-1"))
    progress = Recorder()

    scan(folder, progress=progress)

    assert progress.bytes == data_size_bytes(str(folder)) > 0
