"""The right to forget, shown by reading every byte of every file afterwards: nothing is compressed in these tests."""

import json
import os
import shutil
import signal
import threading
import time
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import pytest
from capture_fakes import NOW, Capturing, Customer, Risk, files_with, killed_at, read_rows
from msgspec import Struct

from slipway_bundle.errors import UsageError
from slipway_bundle.redaction import Redact
from slipway_signals.capture import CapturedModel, ModelCapture
from slipway_signals.capture.compact import pack_segments
from slipway_signals.capture.errors import CaptureBusyError
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.forget import Receipt, forget
from slipway_signals.capture.labels import ingest
from slipway_signals.capture.pseudonyms import KeyRing

ALICE = "alice-c-1042"
ALICE_REQUESTS = ("request-alice-1", "request-alice-2", "request-alice-3")


def pseudonyms(folder: Path) -> tuple[str, ...]:
    return tuple(KeyRing(folder.with_name(f"{folder.name}.keys")).all_of(ALICE))


def forgotten(folder: Path, **given: object) -> Receipt:
    return forget(folder, NOW, compression="none", timeout_s=5.0, **{"subject": ALICE, **given})  # type: ignore[arg-type]


def packed(capturing: Capturing) -> None:
    folder = CaptureFolder(capturing.folder)
    with folder.exclusive(1.0):
        pack_segments(folder, compression="none")


def captured(folder: Path) -> Capturing:
    """Rows of Alice and of others in Parquet, in a closed segment, in one that a dead process left, and labels."""
    first = Capturing(folder)
    first.offer(ALICE_REQUESTS[0], subject=ALICE)
    first.offer("request-bob-1", subject="bob")
    packed(first.close())
    second = Capturing(folder)
    second.offer(ALICE_REQUESTS[1], Customer(email=ALICE), now=NOW + 7_200)
    second.offer("request-bob-2", subject="bob")
    second.close()
    third = Capturing(folder)
    third.offer(ALICE_REQUESTS[2], Customer(note=ALICE), subject=None)
    third.offer("request-bob-3", subject="bob")
    third.close()
    segment = max((folder / "closed").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    segment.rename(folder / "open" / segment.name)
    return third


def test_nothing_of_the_person_is_left_in_any_file(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    captured(folder)
    labels = tmp_path / "labels.jsonl"
    names = (*ALICE_REQUESTS, "request-bob-1", "not-captured")
    labels.write_text("".join(f'{{"request_id": "{one}", "label": 1, "observed_at": {NOW}}}\n' for one in names))
    ingest(folder, labels, NOW)
    labels.unlink()
    needles = (ALICE, *pseudonyms(folder), *ALICE_REQUESTS)
    assert files_with(folder, *needles), "the search finds what is there"

    receipt = forgotten(folder)

    assert files_with(folder, *needles) == set()
    assert receipt.rows == 3
    assert receipt.labels == 3
    assert sorted(row["request_id"] for row in read_rows(folder)) == ["request-bob-1", "request-bob-2", "request-bob-3"]
    assert files_with(folder, "request-bob-1")


def test_a_process_that_captures_gives_up_what_it_has_open(tmp_path: Path) -> None:
    """A row in the open segment and one still in the ring; the process goes on capturing afterwards."""
    living = Capturing(tmp_path / "capture")
    living.offer("request-alice-1", subject=ALICE)
    living.log._writer.turn(living.log._ring, time.monotonic())
    living.offer("request-alice-2", subject=ALICE)
    living.offer("request-bob", subject="bob")
    needles = (ALICE, *pseudonyms(living.folder), "request-alice")
    assert files_with(living.folder, *needles)
    living.log.start()

    receipt = forgotten(living.folder)
    left = files_with(living.folder, *needles)
    living.offer("request-bob-later", subject="bob")
    living.close()
    packed(living)

    assert receipt.rows == 2
    assert left == set()
    assert sorted(row["request_id"] for row in read_rows(living.folder)) == ["request-bob", "request-bob-later"]


def test_a_process_that_does_not_answer_is_named_and_nothing_is_forgotten(tmp_path: Path) -> None:
    hanging = Capturing(tmp_path / "capture")
    hanging.offer("request-alice", subject=ALICE)

    with pytest.raises(CaptureBusyError, match=f"-{os.getpid()}-.* did not close its segment"):
        forget(hanging.folder, NOW, subject=ALICE, timeout_s=0.2)

    assert [row["request_id"] for row in hanging.close().rows()] == ["request-alice"]


def test_a_dead_process_is_not_waited_for(tmp_path: Path) -> None:
    captured(tmp_path / "capture")
    (tmp_path / "capture" / "writers" / "host-1-dead").write_bytes(b"0\n")

    receipt = forgotten(tmp_path / "capture")

    assert receipt.rows == 3


def test_one_request_can_be_forgotten(tmp_path: Path) -> None:
    captured(tmp_path / "capture")

    receipt = forgotten(tmp_path / "capture", subject=None, request="request-bob-2")

    assert receipt.rows == 1
    assert receipt.what == "request"
    assert files_with(tmp_path / "capture", "request-bob-2") == set()
    assert len(read_rows(tmp_path / "capture")) == 5


def test_items_of_lists_are_searched_and_closed_sets_are_not(tmp_path: Path) -> None:
    class Family(Struct):
        members: list[Annotated[str, Redact("hash")]]
        names: Annotated[list[list[str]], Redact("keep")]

    capturing = Capturing(tmp_path / "capture", CapturedModel(name="f", version="1", takes=Family, gives=Risk))
    capturing.offer("r1", Family(["bob", ALICE], [[]]), model="f")
    capturing.offer("r2", Family([], [["x"], [ALICE]]), model="f")
    capturing.offer("r3", Family([], []), Risk(label="leaves"), model="f")
    capturing.close()

    subject = forgotten(tmp_path / "capture")
    word = forgotten(tmp_path / "capture", subject="leaves")

    assert subject.rows == 2
    assert word.rows == 0
    assert [row["request_id"] for row in read_rows(tmp_path / "capture")] == ["r3"]


def test_the_receipt_can_be_checked_and_does_not_say_who(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    captured(folder)

    receipt = forgotten(folder)

    stored = json.loads((folder / "receipts" / f"{receipt.id}.json").read_bytes())
    unsigned = json.dumps(stored | {"digest": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(unsigned.encode()).hexdigest() == stored["digest"] == receipt.digest
    assert stored["rows"] == 3
    for file in stored["files"]:
        if file["after"] is not None:
            assert sha256((folder / file["path"]).read_bytes()).hexdigest() == file["after"]


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    captured(tmp_path / "capture")

    receipt = forgotten(tmp_path / "capture", dry_run=True)

    assert receipt.rows == 3
    assert len(read_rows(tmp_path / "capture")) == 6
    assert list((tmp_path / "capture" / "receipts").iterdir()) == []


def test_who_is_not_there_gets_a_receipt_of_nothing(tmp_path: Path) -> None:
    captured(tmp_path / "capture")

    receipt = forgotten(tmp_path / "capture", subject="nobody")

    assert receipt.rows == 0
    assert receipt.searched == 3
    assert len(read_rows(tmp_path / "capture")) == 6


def test_a_person_inside_longer_texts_is_found_by_what_the_texts_say(tmp_path: Path) -> None:
    """Whatever the case and the way of writing it; in lists, in bytes, in an id; no row that does not say it goes."""

    class Letter(Struct):
        body: Annotated[str, Redact("keep")] = ""
        lines: Annotated[list[str], Redact("keep")] = []
        blob: Annotated[bytes, Redact("keep")] = b""
        length_only: str = ""

    folder = tmp_path / "capture"
    letters = CapturedModel(name="l", version="1", takes=Letter, gives=Risk)
    capturing = Capturing(folder, letters, models={"l": ModelCapture(score="probability")})
    said = {
        "whole": Letter(body="Zoë Ruß"),
        "inside": Letter(body="Dear Zoë Ruß, your order"),
        "case": Letter(body="ZOE\u0308 RUSS asks"),
        "item": Letter(lines=["nothing", "signed: zoë ruß"]),
        "bytes": Letter(blob="From: Zoë Ruß".encode()),
        "id-of-Zoë Ruß": Letter(),
        "other": Letter(body="Zoe Rust"),
        "unkept": Letter(length_only="Zoë Ruß"),
    }
    for request, letter in said.items():
        capturing.offer(request, letter, model="l")
    capturing.close()
    labels = tmp_path / "labels.jsonl"
    labels.write_text(f'{{"request_id": "inside", "label": 1, "observed_at": {NOW}}}\n')
    ingest(folder, labels, NOW)
    labels.unlink()

    dry = forgotten(folder, subject=None, texts=["zoë ruß"], dry_run=True)
    exact = forgotten(folder, subject="Zoë Ruß", dry_run=True)
    receipt = forgotten(folder, subject=None, texts=["nobody", "zoë ruß"])

    assert (dry.rows, dry.labels) == (receipt.rows, receipt.labels) == (6, 1)
    assert exact.rows == 1
    assert exact.kept_text == ("features.blob", "features.body", "features.lines")
    assert receipt.what == "text"
    assert {row["request_id"] for row in read_rows(folder)} == {"other", "unkept"}
    assert files_with(folder, "Zoë Ruß", "signed: ", "RUSS asks") == set()


@pytest.mark.parametrize(
    "given",
    [{}, {"subject": "a", "request": "b"}, {"subject": ""}, {"texts": ["a", " "]}, {"texts": ["a"], "subject": "b"}],
)
def test_without_one_name_nobody_is_forgotten(tmp_path: Path, given: dict[str, Any]) -> None:
    captured(tmp_path / "capture")

    with pytest.raises(UsageError, match="either a subject, or a request, or texts"):
        forget(tmp_path / "capture", NOW, **given)

    assert len(read_rows(tmp_path / "capture")) < 6


@pytest.mark.e2e
def test_killed_at_any_step_it_is_done_by_repeating_it(tmp_path: Path) -> None:
    """Either there is a receipt and nothing is left, or there is none and the next one takes everything."""
    template = tmp_path / "template"
    captured(template)

    for step in count(1):
        root = tmp_path / "again" / "capture"
        shutil.copytree(template, root)
        shutil.copy(template.with_name("template.keys"), root.with_name("capture.keys"))
        names = (ALICE, *pseudonyms(root), *ALICE_REQUESTS)
        status = killed_at(step, lambda root=root: forgotten(root))  # type: ignore[misc]
        assert status in {0, -signal.SIGKILL}
        again = forgotten(root)
        receipts = [json.loads(path.read_bytes())["rows"] for path in (root / "receipts").iterdir()]
        left, others = files_with(root, *names), len(read_rows(root))
        shutil.rmtree(root.parent)
        assert left == set(), f"after a kill before step {step}"
        assert others == 3
        assert sorted(receipts) in ([3], [0, 3]), again
        if status == 0:
            break

    assert step > 30


def test_two_forgets_at_once_both_succeed(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    captured(folder)
    found: list[Receipt] = []
    threads = [
        threading.Thread(target=lambda who=who: found.append(forgotten(folder, subject=who))) for who in (ALICE, "bob")
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)

    assert sorted(receipt.rows for receipt in found) == [3, 3]
    assert read_rows(folder) == []
