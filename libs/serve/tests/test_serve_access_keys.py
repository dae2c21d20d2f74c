"""API keys as their file has them: made, found, rotated, expired, revoked; and a file that is followed."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway_bundle import SlipwayError
from slipway_serve.access.errors import KeyFileError, KeyFileUnreadableError, KeyNotFoundError, KeyTakenError
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.access.keys import Keys, list_keys, load_keys, new_key, revoke_keys

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

MAKING = """
import sys
from pathlib import Path
from slipway_serve.access.keys import new_key
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    new_key(Path(sys.argv[1]), f"{sys.argv[2]}-{number}")
"""


def test_a_key_is_found_and_the_file_holds_no_key(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"

    made = new_key(path, "billing", scopes=["explain", "explain"], now=NOW)
    found = load_keys(path).find(made.key.encode())

    assert found is not None
    assert (found.name, found.scopes, found.expires) == ("billing", ("explain",), None)
    assert made.key.split("_", 2)[2] not in path.read_text()
    assert len(made.key) == len("slw_12345678_") + 43
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("change", ["", " ", "x" * 100_000, "slw_", "id", "secret", "case", "longer", "nul"])
def test_what_is_almost_a_key_is_none(tmp_path: Path, change: str) -> None:
    made = new_key(tmp_path / "keys.json", "billing")
    other = new_key(tmp_path / "keys.json", "other")
    mine, theirs = made.key.split("_", 2), other.key.split("_", 2)
    sent = {
        "id": "_".join((mine[0], theirs[1], mine[2])),
        "secret": "_".join((mine[0], mine[1], theirs[2])),
        "case": made.key.swapcase(),
        "longer": made.key + "A",
        "nul": made.key + "\0",
    }.get(change, change)

    assert load_keys(tmp_path / "keys.json").find(sent.encode()) is None
    assert Keys().find(made.key.encode()) is None


def test_a_rotation_keeps_the_old_key_and_its_scopes_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = new_key(path, "billing", scopes=["explain"], now=NOW)

    with pytest.raises(KeyTakenError, match=old.entry.id):
        new_key(path, "billing", now=NOW)
    new = new_key(path, "billing", now=NOW, is_rotation=True)
    both = load_keys(path)
    revoke_keys(path, old.entry.id)
    rest = load_keys(path)

    assert [both.find(made.key.encode()) is not None for made in (old, new)] == [True, True]
    assert [rest.find(made.key.encode()) is not None for made in (old, new)] == [False, True]
    assert new.entry.scopes == ("explain",)


def test_an_expired_key_is_no_reason_to_refuse_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = new_key(path, "billing", expires_in=timedelta(days=1), now=NOW)

    new_key(path, "billing", now=NOW + timedelta(days=1))

    assert old.entry.is_expired(NOW + timedelta(days=1))
    assert not old.entry.is_expired(NOW + timedelta(hours=23, minutes=59))


def test_all_keys_of_a_client_can_go_at_once_and_a_trial_takes_none(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for name, is_rotation in (("a", False), ("a", True), ("b", False)):
        new_key(path, name, is_rotation=is_rotation)

    tried = revoke_keys(path, "a", is_trial=True)
    before = list_keys(path)
    revoke_keys(path, "a")

    assert (len(tried), len(before)) == (2, 3)
    assert [entry.name for entry in list_keys(path)] == ["b"]
    with pytest.raises(KeyNotFoundError, match="expected one of b"):
        revoke_keys(path, "a")


def test_commands_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    command = [sys.executable, "-c", MAKING, str(path)]

    pipe = subprocess.PIPE
    started = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe) for name in ("a", "b")]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    ended = [process.wait(60) for process in started]
    for process in started:
        process.communicate()

    assert ended == [0, 0]
    assert len(list_keys(path)) == 20
    assert [found.name for found in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated"),
        (b'{"keys": [{"id": "x"}]}', "keys"),
        (b'{"version": 2, "keys": []}', "version 2"),
        (b'{"keys": [' + b'{"id":"00000000","name":"a","sha256":"%s","created":"2026-01-01T00:00:00Z"},' % (b"0" * 64)
         + b'{"id":"00000000","name":"b","sha256":"%s","created":"2026-01-01T00:00:00Z"}]}' % (b"1" * 64), "one id"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)

    with pytest.raises(KeyFileError, match=said):
        load_keys(path)


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(KeyFileUnreadableError) as caught:
        load_keys(tmp_path / "keys.json")

    assert "slipway access key new" in str(caught.value.hint)
    with pytest.raises(KeyFileUnreadableError):
        revoke_keys(tmp_path / "keys.json", "a")


@pytest.mark.parametrize(("name", "scopes"), [("", []), ("a b", []), ("-a", []), ("a" * 65, []), ("a", ['x"y', "z"])])
def test_a_name_or_scope_that_would_confuse_is_refused(tmp_path: Path, name: str, scopes: list[str]) -> None:
    with pytest.raises(SlipwayError):
        new_key(tmp_path / "keys.json", name, scopes=scopes)

    assert not (tmp_path / "keys.json").exists()


def test_a_followed_file_changes_nothing_until_it_is_right_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    read: list[int] = []
    new_key(path, "a")
    files = FollowedFiles([path], lambda: read.append(len(load_keys(path))))

    files.look()
    path.write_text("{")
    files.look()
    is_stale = files.is_stale
    path.unlink()
    files.look()
    for name in ("a", "b"):
        new_key(path, name)
    files.look()

    assert read == [1, 2]
    assert is_stale
    assert not files.is_stale
