"""Compaction: killed anywhere nothing is lost and nothing doubled; retention; hostile names; several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from capture_fakes import DAY_S, NOW, Capturing, Customer, Risk, killed_at, read_rows

from slipway_bundle.errors import SlipwayError
from slipway_signals.capture import CaptureConfig, CapturedModel
from slipway_signals.capture.compact import compact
from slipway_signals.capture.config import ModelCapture
from slipway_signals.capture.errors import CaptureBusyError, CaptureFolderError
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.pseudonyms import KeyRing
from slipway_signals.capture.retention import Stored, too_many, too_old

WRITER = """
import sys, time
from pathlib import Path
from capture_fakes import Capturing
capturing = Capturing(Path(sys.argv[1]), segment_bytes=1_000_000)
capturing.log.start()
number = 0
while True:
    for _ in range(200):
        capturing.offer(f"{sys.argv[2]}-{number}")
        number += 1
    time.sleep(0.01)
    print(int(capturing.counts().get("written", 0)), flush=True)
"""


def ids(folder: Path) -> list[str]:
    return sorted(row["request_id"] for row in read_rows(folder))


def fill(folder: Path, *names: str, now: float = NOW) -> Capturing:
    capturing = Capturing(folder)
    for name in names:
        capturing.offer(name, now=now)
    return capturing.close()


def test_running_twice_changes_nothing(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1", "r2")

    first = compact(capturing.folder, capturing.config, NOW)
    second = compact(capturing.folder, capturing.config, NOW)

    assert (first.rows, first.parts, first.segments) == (2, 1, 1)
    assert (second.rows, second.parts, second.segments) == (0, 0, 0)
    assert ids(capturing.folder) == ["r1", "r2"]


def test_killed_at_any_step_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path) -> None:
    """Two closed segments, one left open by a dead process, and two parts from before, of which one is too old."""
    template = tmp_path / "template"
    fill(template, "old", now=NOW - 40 * DAY_S).rows()
    fill(template, "r0").rows()
    fill(template, "r1", "r2")
    fill(template, "r3", now=NOW + 3_600)
    left = fill(template, "r4")
    segment = max((template / "closed").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    segment.rename(template / "open" / segment.name)
    config = left.config

    for step in count(1):
        root = tmp_path / "capture"
        shutil.copytree(template, root)
        shutil.copy(template.with_name("template.keys"), root.with_name("capture.keys"))
        status = killed_at(step, lambda root=root: compact(root, config, NOW))  # type: ignore[misc]
        assert status in {0, -signal.SIGKILL}
        compact(root, config, NOW)
        found = ids(root)
        leftovers = [*(root / "staging").iterdir(), *(root / "closed").iterdir(), *(root / "open").iterdir()]
        shutil.rmtree(root)
        assert found == ["r0", "r1", "r2", "r3", "r4"], f"after a kill before step {step}"
        assert leftovers == []
        if status == 0:
            break

    assert step > 30


def test_a_killed_process_loses_nothing_that_it_counted_as_written(tmp_path: Path) -> None:
    """Two real processes write one folder; both are killed in the middle of it."""
    folder = tmp_path / "capture"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", WRITER, str(folder)]
    writers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True, env=environment) for name in ("a", "b")
    ]
    written = [0, 0]
    for place, writer in enumerate(writers):
        assert writer.stdout is not None
        while written[place] < 2_000:
            written[place] = int(writer.stdout.readline())
    compact(folder, CaptureConfig(), NOW)  # while they write
    for writer in writers:
        writer.kill()
        writer.communicate()

    report = compact(folder, CaptureConfig(), NOW)
    found = ids(folder)

    assert report.taken_over >= 1
    assert len(found) == len(set(found))
    for name, counted in zip("ab", written, strict=True):
        own = sorted(int(one[2:]) for one in found if one.startswith(name))
        assert len(own) >= counted
        assert own[: len(own)] == list(range(len(own))), "a hole in the middle"


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    living = Capturing(tmp_path / "capture")
    living.offer("r1")
    living.log._writer.turn(living.log._ring, 0.0)

    report = compact(living.folder, living.config, NOW)

    assert report.segments == report.taken_over == 0
    assert len(list((living.folder / "open").iterdir())) == 1
    assert [row["request_id"] for row in living.close().rows()] == ["r1"]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_tail_costs_its_record_only(tmp_path: Path, cut: int) -> None:
    capturing = fill(tmp_path / "capture", "r1", "r2", "r3")
    (segment,) = (capturing.folder / "closed").iterdir()
    segment.write_bytes(segment.read_bytes()[:-cut])

    report = compact(capturing.folder, capturing.config, NOW)

    assert report.rows == 2
    assert report.lost_bytes > 0
    assert ids(capturing.folder) == ["r1", "r2"]


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1", "r2", "r3")
    (segment,) = (capturing.folder / "closed").iterdir()
    data = bytearray(segment.read_bytes())
    data[data.index(b"r2")] ^= 1
    segment.write_bytes(data)

    report = compact(capturing.folder, capturing.config, NOW)

    assert ids(capturing.folder) == ["r1"]
    assert report.lost_bytes > 0


@pytest.mark.parametrize("data", [b"", b"SLIPSEG1", b"no segment at all", b"SLIPSEG1" + b"\xff" * 100])
def test_a_file_that_is_no_segment_harms_no_other(tmp_path: Path, data: bytes) -> None:
    capturing = fill(tmp_path / "capture", "r1")
    (capturing.folder / "closed" / "0.segment").write_bytes(data)

    compact(capturing.folder, capturing.config, NOW)

    assert ids(capturing.folder) == ["r1"]
    assert list((capturing.folder / "closed").iterdir()) == []


@pytest.mark.parametrize("name", ["../../../etc", "a/b", "..", "", "n\0ul", "ü" * 300, "model=x"])
def test_no_model_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "deep").mkdir()
    hostile = CapturedModel(name=name, version=name, takes=Customer, gives=Risk)
    capturing = Capturing(tmp_path / "deep" / "capture", hostile)
    capturing.offer("../../../r1", model=name)
    capturing.close()

    compact(capturing.folder, capturing.config, NOW)

    parts = list((capturing.folder / "data").rglob("*.parquet"))
    assert [len(part.relative_to(capturing.folder / "data").parts) for part in parts] == [5]
    assert sorted(path.name for path in tmp_path.rglob("*.parquet")) == [parts[0].name]
    assert ids(capturing.folder) == ["../../../r1"]


def test_a_link_in_the_way_of_a_part_is_refused(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (capturing.folder / "data" / "model=churn").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CaptureFolderError, match="is a link"):
        compact(capturing.folder, capturing.config, NOW)
    assert list((tmp_path / "elsewhere").iterdir()) == []

    (capturing.folder / "data" / "model=churn").unlink()
    compact(capturing.folder, capturing.config, NOW)
    assert ids(capturing.folder) == ["r1"]


def test_links_to_files_are_neither_read_nor_deleted(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1")
    compact(capturing.folder, capturing.config, NOW)
    (part,) = (capturing.folder / "data").rglob("*.parquet")
    victim = tmp_path / "victim.parquet"
    victim.write_bytes(b"precious")
    link = part.parent / "part-x-000009.parquet"
    link.symlink_to(victim)

    compact(capturing.folder, CaptureConfig(retention_days=1), NOW + 5 * DAY_S)

    assert victim.read_bytes() == b"precious"
    assert link.is_symlink()
    assert not part.exists()


def test_old_hours_go_and_young_ones_stay(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    for age in (31, 29, 0):
        fill(folder, f"{age} days", now=NOW - age * DAY_S)
    compact(folder, CaptureConfig(), NOW)

    report = compact(folder, CaptureConfig(retention_days=30), NOW)

    assert ids(folder) == ["0 days", "29 days"]
    assert report.expired == 1


def test_the_byte_cap_takes_the_oldest_first() -> None:
    hours = [Stored(Path(f"p{n}"), datetime(2026, 11, 21, n, tzinfo=UTC), 100) for n in (3, 1, 2)]

    assert [part.path.name for part in too_many(hours, 250)] == ["p1"]
    assert [part.path.name for part in too_many(hours, 0)] == ["p1", "p2", "p3"]
    assert too_many(hours, 300) == []
    assert too_many(hours, -10) == sorted(hours, key=lambda part: part.hour)


def test_an_hour_is_too_old_when_its_last_minute_is() -> None:
    part = Stored(Path("p"), datetime(2026, 11, 20, 10, tzinfo=UTC), 1)

    assert too_old([part], datetime(2026, 11, 21, 10, 59, tzinfo=UTC), 1) == []
    assert too_old([part], datetime(2026, 11, 21, 11, 0, tzinfo=UTC), 1) == [part]


def test_a_clock_that_jumps_back_loses_and_mixes_nothing(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture")
    for number, now in enumerate((NOW, NOW - 7_200, NOW - 400 * DAY_S, NOW + 1)):
        capturing.offer(f"r{number}", now=now)
    capturing.close()

    report = compact(capturing.folder, CaptureConfig(retention_days=3_650), NOW)

    assert report.parts == 3
    assert ids(capturing.folder) == ["r0", "r1", "r2", "r3"]


def test_without_compaction_the_segments_stop_at_the_byte_cap(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture", max_bytes=1_000_000, segment_bytes=1_000_000)
    writer, ring = capturing.log._writer, capturing.log._ring
    for number in range(2_000):
        capturing.offer(f"r{number}", Customer(note="x" * 1_000))
        writer.turn(ring, float(number))

    size = sum(path.stat().st_size for path in (capturing.folder / "closed").iterdir())

    assert size < 2_000_000
    assert capturing.counts()["failed"] > 0
    capturing.close()


def test_a_second_compaction_waits_and_gives_up_with_words(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1")

    with CaptureFolder(capturing.folder).exclusive(0.0), pytest.raises(CaptureBusyError, match="is at work"):
        compact(capturing.folder, capturing.config, NOW, timeout_s=0.1)

    assert len(list((capturing.folder / "closed").iterdir())) == 1


def test_an_old_key_gets_a_successor_and_goes_when_nothing_can_be_under_it(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1")
    keys = tmp_path / "capture.keys"
    created = json.loads(keys.read_bytes())["keys"][0]["created_s"]
    config = CaptureConfig(key_days=90, retention_days=30)
    ring = KeyRing(keys)
    names = ring.all_of("alice")

    compact(capturing.folder, config, created + 91 * DAY_S, trust_clock=True)
    both = KeyRing(keys).all_of("alice")
    compact(capturing.folder, config, created + (91 + 32) * DAY_S, trust_clock=True)
    last = KeyRing(keys).all_of("alice")

    assert names < both
    assert len(both) == 2
    assert last == both - names


def test_a_damaged_key_file_is_an_error_not_a_new_key(tmp_path: Path) -> None:
    fill(tmp_path / "capture", "r1")
    (tmp_path / "capture.keys").write_bytes(b'{"keys":[]}')

    with pytest.raises(SlipwayError, match="it holds no key"):
        Capturing(tmp_path / "capture")


def test_the_program_prints_what_it_did(tmp_path: Path) -> None:
    capturing = fill(tmp_path / "capture", "r1", "r2")
    command = [sys.executable, "-m", "slipway_signals.capture.compact"]

    done = subprocess.run([*command, str(capturing.folder)], capture_output=True, text=True, check=True)
    wrong = subprocess.run([*command, str(tmp_path / "nothing")], capture_output=True, text=True, check=False)

    assert json.loads(done.stdout)["rows"] == 2
    assert wrong.returncode == 3
    assert "is no capture folder" in wrong.stderr


def test_serving_processes_import_no_pyarrow() -> None:
    script = "import sys, slipway_signals.capture, slipway_signals.capture.label_state; print('pyarrow' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"enabled": True}, "`folder` is not given"),
        ({"rate": 1.5}, "`float` <= 1"),
        ({"subject_header": "x", "subject_field": "y"}, "both given"),
        ({"models": {"churn": {"score": "a", "choice": "b"}}}, "expected one of score, choice, number"),
        ({"models": {"churn": {"unsure": 0.1}}}, "`unsure` is given without `score`"),
        ({"retention": 3}, "unknown field `retention`"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(table: dict[str, object], words: str) -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(table, CaptureConfig)

    assert words in str(raised.value)


def test_each_model_may_have_a_rate_of_its_own() -> None:
    config = CaptureConfig(rate=0.1, models={"rare": ModelCapture(rate=1.0), "other": ModelCapture()})

    assert [config.rate_of(name) for name in ("rare", "other", "third")] == [1.0, 0.1, 0.1]
