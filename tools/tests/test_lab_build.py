"""Building the lab's programs: once, whole or not at all, and with a word on what went wrong."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import msgspec
import pytest
from lab_workshop import asked, make_workshop
from monitoring import eventually

from slipway_lab import build
from slipway_lab.build import BuildError, binary, build_all, clean, key_of
from slipway_lab.errors import CannotRunError, LabError
from slipway_lab.programs import PROGRAMS
from slipway_lab.workshop import find_workshop

PAUSE = PROGRAMS["pause"]


def test_a_program_is_built_once_under_its_own_name(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path)

    first = binary("pause", workshop=workshop)
    second = binary("pause", workshop=workshop)

    assert first == second == workshop.programs / f"pause-{key_of(PAUSE, workshop)}" / "pause"
    assert first.read_text() == "program"
    assert len(asked(workshop)) == 1


def test_progress_tells_what_is_built_how_long_it_took_and_how_large_it_is(tmp_path: Path) -> None:
    told: list[str] = []

    build_all(["pause"], told.append, workshop=make_workshop(tmp_path))

    assert told == ["builds pause (1 of 1)", "built pause: 0 s, 0 MB"]


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go", "inner/other.go"])
def test_other_source_is_another_program(tmp_path: Path, name: str) -> None:
    workshop = make_workshop(tmp_path)
    before = key_of(PAUSE, workshop)
    changed = workshop.tools / "pause" / name
    changed.parent.mkdir(exist_ok=True)

    changed.write_text("another\n")

    assert key_of(PAUSE, workshop) != before


def test_other_flags_and_another_go_are_another_program(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path)
    variants = [
        (PAUSE, workshop),
        (msgspec.structs.replace(PAUSE, ldflags="-X a.b=c"), workshop),
        (msgspec.structs.replace(PAUSE, tags="netgo"), workshop),
        (msgspec.structs.replace(PAUSE, package="./cmd"), workshop),
        (PAUSE, msgspec.structs.replace(workshop, go_version="go1.27.0 linux amd64")),
        (PAUSE, msgspec.structs.replace(workshop, go_version="go1.26.8 linux arm64")),
    ]

    keys = {key_of(program, place) for program, place in variants}

    assert len(keys) == len(variants)


def test_programs_are_static_and_tell_nothing_of_this_machine(tmp_path: Path) -> None:
    go = '#!/bin/sh\necho CGO_ENABLED=$CGO_ENABLED GOFLAGS=$GOFLAGS GOTOOLCHAIN=$GOTOOLCHAIN "$@" >> {log}\nexit 1\n'
    workshop = make_workshop(tmp_path, go)

    with pytest.raises(BuildError):
        binary("pause", workshop=workshop)

    (line,) = asked(workshop)
    assert line.startswith("CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local build -trimpath -buildvcs=false")
    assert "-ldflags=-s -w -o" in line


def test_a_failed_build_tells_its_last_lines_and_leaves_nothing(tmp_path: Path) -> None:
    said = "seq 1 40 | sed 's/^/line /'\necho 'go: downloading x v1'\necho 'main.go:3: undefined: x'"
    workshop = make_workshop(tmp_path, f"#!/bin/sh\n{said}\nexit 1\n")

    with pytest.raises(BuildError) as caught:
        binary("pause", workshop=workshop)

    lines = caught.value.message.splitlines()
    assert lines[0] == "pause could not be built: go build ended with status 1"
    assert lines[1:3] == ["  line 27", "  line 28"]
    assert lines[-1] == "  main.go:3: undefined: x"
    assert "cd tools/pause" in (caught.value.hint or "")
    assert list(workshop.programs.iterdir()) == []


@pytest.mark.parametrize(
    ("told", "hint", "kind"),
    [
        ("dial tcp: lookup modules.test: no such host", "look at the network", CannotRunError),
        ("server response: This module version is not available.", "at the versions in go.mod", BuildError),
        ("module lookup disabled by GOPROXY=off", "look at the network", CannotRunError),
        ("write /tmp/x: no space left on device", "make room on the disk", BuildError),
        ("github.com/x/y: /usr/local/go/pkg/tool/compile: signal: killed", "most likely for memory", BuildError),
    ],
)
def test_a_hint_tells_what_is_away(tmp_path: Path, told: str, hint: str, kind: type[LabError]) -> None:
    """Without a way to the modules tests of the lab skip; a build that fails is a failure."""
    workshop = make_workshop(tmp_path, f"#!/bin/sh\necho '{told}' >&2\nexit 1\n")

    with pytest.raises(kind) as caught:
        binary("pause", workshop=workshop)

    assert hint in (caught.value.hint or "")
    assert told in caught.value.message


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    """The first one's Go waits for a word, which it gets when the second builder is known to wait for the first."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    go = f'#!/bin/sh\nread word < {gate}\necho "$@" >> {{log}}\nprintf program > "$6"\n'
    workshop = make_workshop(tmp_path, go)
    told: list[str] = []
    begun, waiting = threading.Event(), threading.Event()

    def build_and_tell(event: threading.Event) -> Path:
        def say(line: str) -> None:
            told.append(line)
            event.set()

        return binary("pause", workshop=workshop, say=say)

    with ThreadPoolExecutor() as threads, gate.open("r+b", buffering=0) as words:
        first = threads.submit(build_and_tell, begun)
        begun.wait(20)
        second = threads.submit(build_and_tell, waiting)
        is_waiting = waiting.wait(20)
        words.write(b"go on\n" * 2)
        wait([first, second], timeout=20)

    assert is_waiting
    assert told == ["builds pause (1 of 1)", "waits: another process builds", "built pause: 0 s, 0 MB"]
    assert len(asked(workshop)) == 1
    assert first.result() == second.result()


def test_an_interrupted_build_ends_its_processes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    workshop = make_workshop(tmp_path, f"#!/bin/sh\nsleep 600 & \necho $$ $! > {pids}\nwait\n")
    monkeypatch.setattr(build, "TELL_EVERY_S", 0.05)
    running: list[int] = []

    def interrupt(line: str) -> None:
        if line.endswith("so far"):
            running.extend(int(pid) for pid in pids.read_text().split())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        binary("pause", workshop=workshop, say=interrupt)

    assert len(running) == 2
    assert eventually(lambda: not any(_is_running(pid) for pid in running), timeout_s=10)
    assert list(workshop.programs.iterdir()) == []


def test_a_build_that_hangs_ends_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = make_workshop(tmp_path, "#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(build, "LIMIT_S", 0.2)

    with pytest.raises(BuildError, match="pause was not built in 0 s"):
        binary("pause", workshop=workshop)

    assert list(workshop.programs.iterdir()) == []


def test_what_a_killed_builder_left_is_removed(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path)
    leftover = workshop.programs / ".abc"
    leftover.mkdir(parents=True)
    (leftover / "pause").write_text("half of a pro")

    place = binary("pause", workshop=workshop)

    assert list(workshop.programs.iterdir()) == [place.parent]


def test_cleaning_removes_other_versions_and_the_build_cache(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path)
    monkey = workshop.programs / "pause-0123456789abcdef"
    for folder in (monkey, workshop.build_cache / "00"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x" * 500)
    place = binary("pause", workshop=workshop)

    freed = clean(workshop)

    assert freed == 1000
    assert list(workshop.programs.iterdir()) == [place.parent]
    assert not workshop.build_cache.exists()


def test_an_old_go_is_refused_with_the_version_that_is_needed(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path, version="go1.19.8 linux amd64")

    with pytest.raises(CannotRunError, match=r"got go1\.19\.8 .*expected go1\.26 or newer"):
        binary("pause", workshop=workshop)

    assert asked(workshop) == []


def test_a_go_of_the_development_branch_may_try(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path, version="devel linux amd64")

    place = binary("pause", workshop=workshop)

    assert place.is_file()


def test_a_full_disk_is_told_before_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = make_workshop(tmp_path)
    monkeypatch.setattr(build, "ROOM_BYTES", 10**18)

    with pytest.raises(CannotRunError, match=r"GB free, expected 1000000000\.0 GB to build 1 programs"):
        binary("pause", workshop=workshop)

    assert asked(workshop) == []


def test_a_program_that_is_there_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = make_workshop(tmp_path)
    built = binary("pause", workshop=workshop)
    monkeypatch.setattr(build, "ROOM_BYTES", 10**18)

    again = binary("pause", workshop=workshop)

    assert again == built


def test_an_unknown_program_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no program 'kubelt', expected one of kube-apiserver, etcd"):
        binary("kubelt", workshop=make_workshop(tmp_path))


def test_a_missing_go_is_told_with_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway_lab.workshop.USUAL_GO", tmp_path / "go")

    with pytest.raises(CannotRunError, match=f"no Go on the PATH, and none at {tmp_path / 'go'}"):
        find_workshop({"PATH": str(tmp_path)})


def test_a_go_that_does_not_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=f"`{tmp_path / 'none'} env` does not work"):
        find_workshop({"SLIPWAY_LAB_GO": str(tmp_path / "none")})


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    workshop = make_workshop(tmp_path)
    workshop.cache.write_text("a file where a folder is needed")

    with pytest.raises(CannotRunError, match="the lab's cache cannot be written") as caught:
        binary("pause", workshop=workshop)

    assert "SLIPWAY_LAB_CACHE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        ({"SLIPWAY_LAB_CACHE": "/c"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/slipway/lab"),
        ({}, str(Path.home() / ".cache/slipway/lab")),
    ],
)
def test_the_cache_is_where_the_environment_says(tmp_path: Path, environ: dict[str, str], cache: str) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.26.8 linux amd64\n")
    go.chmod(0o755)

    workshop = find_workshop({"SLIPWAY_LAB_GO": str(go), **environ})

    assert workshop.cache == Path(cache)


def _is_running(pid: int) -> bool:
    """Not gone, and not a zombie that its new parent has yet to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
