"""Verdicts on a disk, and what a rollout is told of them: real SQLite, real full disks."""

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from slipway_serve.verdicts.answers import Freeze, Recorded, Stage, answer_of, as_counted
from slipway_serve.verdicts.errors import StoreError, StoreFullError, StoreVersionError
from slipway_serve.verdicts.store import APPLICATION, TABLES, VERSION, VerdictStore
from slipway_signals.gate.plan_policy import PlanPolicy

STAGE = Stage(rollout="shop/churn", pod_hash="6d5f8b", stage="10")
STAGE_VALUES = (STAGE.rollout, STAGE.pod_hash, STAGE.stage)
DAY_S = 86_400.0
NOW_S = 1_800_000_000.0
ONE = Recorded(
    number=0,
    stage=STAGE,
    verdict="pass",
    reason="no metric is worse",
    evidence="sha256:1",
    finished_s=NOW_S - 60,
    received_s=NOW_S - 50,
    by="ci",
)


def judged(*verdicts: str, **changed: object) -> list[Recorded]:
    return [
        replace(ONE, number=number, verdict=verdict, evidence=f"sha256:{number}", reason=f"run {number}", **changed)
        for number, verdict in enumerate(verdicts, 1)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    with VerdictStore.opened(tmp_path / "verdicts.db") as made:
        yield made


@pytest.mark.parametrize(
    ("verdicts", "told", "which"),
    [
        (["inconclusive"], "inconclusive", 1),
        (["inconclusive", "pass"], "pass", 2),
        (["pass", "inconclusive"], "pass", 1),
        (["pass", "fail"], "fail", 2),
        (["fail", "pass", "pass"], "fail", 1),
        (["pass", "pass"], "pass", 2),
    ],
)
def test_a_fail_is_not_outvoted_and_a_pass_is_not_forgotten(verdicts: list[str], told: str, which: int) -> None:
    answer = answer_of(STAGE, judged(*verdicts), NOW_S, DAY_S)

    assert (answer.verdict, answer.evidence, answer.runs) == (told, f"sha256:{which}", len(verdicts))
    assert answer.reason == f"run {which}"


def test_what_nobody_judged_is_inconclusive() -> None:
    answer = answer_of(STAGE, [], NOW_S, DAY_S)

    assert (answer.verdict, answer.evidence, answer.runs) == ("inconclusive", None, 0)
    assert "no evidence was posted for stage '10' of 'shop/churn' at '6d5f8b'" in answer.reason


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_an_old_verdict_counts_no_more(verdict: str) -> None:
    """Pods of the same hash come back when a release is rolled back and forth, and meet another stable."""
    old = judged(verdict, finished_s=NOW_S - 3 * DAY_S)

    answer = answer_of(STAGE, old, NOW_S, DAY_S)

    assert (answer.verdict, answer.runs) == ("inconclusive", 1)
    assert "the last run ended 72.0 h ago, and a verdict counts for 24.0 h" in answer.reason


def test_a_run_from_the_future_is_not_believed_longer() -> None:
    ahead = judged("pass", finished_s=NOW_S + 30 * DAY_S, received_s=NOW_S - 2 * DAY_S)

    assert answer_of(STAGE, ahead, NOW_S, DAY_S).verdict == "inconclusive"


def test_what_was_put_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.db"
    with VerdictStore.opened(path) as store:
        kept = store.put(ONE, b"evidence")

    with VerdictStore.opened(path) as store:
        assert store.of_stage(STAGE) == [kept]
        assert store.find("sha256:1") == kept
        assert store.body("sha256:1") == b"evidence"
    assert kept == replace(ONE, number=1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_evidence_counts_once(store: VerdictStore) -> None:
    first = store.put(ONE, b"evidence")

    again = store.put(replace(ONE, received_s=NOW_S, by="another"), b"evidence")

    assert again == first
    assert len(store.of_stage(STAGE)) == 1


def test_stages_are_kept_apart(store: VerdictStore) -> None:
    store.put(ONE, b"a")
    for field in ("rollout", "pod_hash", "stage"):
        other = replace(STAGE, **{field: "other"})
        assert store.of_stage(other) == []
        store.put(replace(ONE, stage=other, evidence=f"sha256:{field}"), b"b")

    assert [one.evidence for one in store.of_stage(STAGE)] == ["sha256:1"]
    assert [one.evidence for one in store.newest("other", 9)] == ["sha256:rollout"]
    assert [one.number for one in store.newest(None, 3)] == [4, 3, 2]


def test_old_evidence_is_forgotten_and_its_verdict_is_not(store: VerdictStore) -> None:
    store.put(ONE, b"old")
    store.put(replace(ONE, evidence="sha256:2", received_s=NOW_S), b"new")

    assert store.forget(NOW_S - 10) == 1
    assert store.body("sha256:1") is None
    assert store.body("sha256:2") == b"new"
    assert [one.evidence for one in store.of_stage(STAGE)] == ["sha256:1", "sha256:2"]


def test_every_commit_waits_for_the_disk(store: VerdictStore) -> None:
    """FULL: with NORMAL, a write-ahead log loses what was committed last when the machine loses its power."""
    asked = {name: store._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}

    assert asked == {"journal_mode": "wal", "synchronous": 2}


def test_a_store_that_is_full_keeps_nothing_of_the_next_and_all_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.db"
    with VerdictStore.opened(path, max_bytes=200_000) as store:
        kept: list[str] = []

        def fill() -> None:
            for number in range(100):
                one = replace(ONE, evidence=f"sha256:{number}")
                store.put(one, _noise(20_000, number))
                kept.append(one.evidence)

        with pytest.raises(StoreFullError, match="no space left"):
            fill()

        assert [one.evidence for one in store.of_stage(STAGE)] == kept
        assert store.body(f"sha256:{len(kept)}") is None
        store.forget(NOW_S)
        store.put(replace(ONE, evidence="sha256:next"), _noise(20_000, 1))
    assert len(kept) > 3
    assert path.stat().st_size <= 200_000


def test_a_disk_that_is_full_keeps_nothing_of_the_next_and_all_of_the_last(tmp_path: Path) -> None:
    """A file-size limit of the process stands for the disk: the kernel refuses the write in the middle of it."""
    script = """
    import resource, signal, sys
    from pathlib import Path
    from test_serve_verdicts_store import ONE, STAGE, _noise, replace
    from slipway_serve.verdicts.errors import StoreFullError
    from slipway_serve.verdicts.store import VerdictStore

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with VerdictStore.opened(Path(sys.argv[1])) as store:
        store.put(ONE, b"first")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            store.put(replace(ONE, evidence="sha256:2"), _noise(1_000_000, 2))
        except StoreFullError:
            print(len(store.of_stage(STAGE)), store.body("sha256:2"))
        store.put(replace(ONE, evidence="sha256:3"), b"small")
    """
    path = tmp_path / "verdicts.db"
    environment = {"PYTHONPATH": str(Path(__file__).parent)}

    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )

    assert (ran.stdout, ran.returncode) == ("1 None\n", 0), ran.stderr
    with VerdictStore.opened(path) as store:
        assert [one.evidence for one in store.of_stage(STAGE)] == ["sha256:1", "sha256:3"]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()

    with pytest.raises(StoreVersionError, match="another program's database"), VerdictStore.opened(path):
        pass

    assert path.read_bytes() == before


def test_a_later_versions_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.db"
    with VerdictStore.opened(path):
        pass
    with closing(sqlite3.connect(path)) as later, later:
        later.execute(f"PRAGMA user_version = {VERSION + 1}")
        assert later.execute("PRAGMA application_id").fetchone() == (APPLICATION,)

    with pytest.raises(StoreVersionError, match="have version 3, expected 2"), VerdictStore.opened(path):
        pass


def test_an_earlier_versions_file_is_taken_over_with_all_that_is_in_it(tmp_path: Path) -> None:
    """Version 1 had neither the terms of a run nor freezes."""
    path = tmp_path / "verdicts.db"
    with closing(sqlite3.connect(path)) as earlier, earlier:
        for statement in TABLES:
            earlier.execute(statement)
        earlier.execute("PRAGMA user_version = 1")
        row = ("sha256:1", *STAGE_VALUES, "pass", "no metric is worse", NOW_S - 60, NOW_S - 50, "ci")
        earlier.execute(f"INSERT INTO verdict VALUES (1, {', '.join('?' * len(row))})", row)  # noqa: S608  # ours

    with VerdictStore.opened(path) as store:
        kept = store.of_stage(STAGE)
        assert store.frozen(NOW_S) == []
    with VerdictStore.opened(path) as store:
        assert store.of_stage(STAGE) == kept == [replace(ONE, number=1)]

    assert as_counted(kept[0], None).verdict == "pass"
    counted = as_counted(kept[0], PlanPolicy())
    assert (counted.verdict, "run the gate again" in counted.reason) == ("inconclusive", True)


@pytest.mark.parametrize("ago_s", [-1.0, 0.0, 1.0])
def test_a_freeze_that_is_over_holds_for_nobody(store: VerdictStore, ago_s: float) -> None:
    since, end = (datetime.fromtimestamp(NOW_S - one, UTC) for one in (60.0, ago_s))
    store.freeze(Freeze(rollout=STAGE.rollout, reason="r", until=end, since=since, by="ci"))

    assert bool(store.frozen(NOW_S, STAGE.rollout)) is (ago_s < 0)
    assert store.frozen(NOW_S, "other") == []


def test_freezing_again_replaces_the_reason(store: VerdictStore) -> None:
    first = Freeze(rollout="*", reason="first", until=None, since=datetime.fromtimestamp(NOW_S, UTC), by="ci")
    for one in (first, replace(first, reason="second")):
        store.freeze(one)

    assert [one.reason for one in store.frozen(NOW_S, "any")] == ["second"]
    assert store.unfreeze("any") is False
    assert store.unfreeze("*") is True
    assert store.frozen(NOW_S) == []


def test_a_file_that_is_no_database_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and no database at all; they are longer than its header\n" * 9)

    with pytest.raises(StoreError, match=r"notes\.txt"), VerdictStore.opened(path):
        pass


def test_a_folder_that_is_not_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"cannot be opened.*(?s:.*)--store"),
        VerdictStore.opened(tmp_path / "nowhere" / "verdicts.db"),
    ):
        pass


def _noise(size: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    import random

    return random.Random(seed).randbytes(size)  # noqa: S311  # a payload
