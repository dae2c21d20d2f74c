"""Control groups: who belongs to a lab is found by its name, in both layouts, and ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_lab import cgroups

NAME = f"slipway-lab-test-{os.getpid()}"

can_make_groups = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0 or not os.access(cgroups.ROOT / "pids", os.W_OK),
    reason="control groups can be made on Linux, as root, where /sys/fs/cgroup is writable",
)


@pytest.fixture
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Files as the kernel shows them: version 1 or 2."""
    if request.param == 2:
        (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids misc\n")
        (tmp_path / "lab").mkdir()  # the kernel makes the files of a new group; here somebody must
        (tmp_path / "lab" / "cgroup.controllers").write_text("cpu memory pids\n")
        return tmp_path
    for hierarchy in ("cpu,cpuacct", "cpuset", "pids"):
        (tmp_path / hierarchy).mkdir()
        (tmp_path / hierarchy / "cgroup.procs").write_text("1\n")
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    return tmp_path


@pytest.mark.parametrize("layout", [1], indirect=True)
def test_version_1_gets_a_group_in_every_hierarchy_and_processors_for_it(layout: Path) -> None:
    cgroups.create("lab", layout)

    assert sorted(str(path.relative_to(layout)) for path in layout.rglob("lab")) == [
        "cpu,cpuacct/lab",
        "cpuset/lab",
        "pids/lab",
    ]
    assert (layout / "cpuset" / "lab" / "cpuset.cpus").read_text() == "0-1\n"
    assert cgroups.members_file("lab", layout) == layout / "pids/lab/system/cgroup.procs"


@pytest.mark.parametrize("layout", [2], indirect=True)
def test_version_2_hands_on_the_controllers_that_there_are(layout: Path) -> None:
    cgroups.create("lab", layout)

    assert (layout / "cgroup.subtree_control").read_text() == "+cpuset +cpu +io +memory +pids"
    assert (layout / "lab" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert cgroups.members_file("lab", layout) == layout / "lab/system/cgroup.procs"


@pytest.mark.parametrize("layout", [1, 2], indirect=True)
def test_members_are_found_at_any_depth(layout: Path) -> None:
    cgroups.create("lab", layout)
    system = cgroups.members_file("lab", layout)
    system.write_text("11\n12\n")
    pod = system.parent.parent / "kubepods" / "burstable" / "pod1"
    pod.mkdir(parents=True)
    (pod / "cgroup.procs").write_text("13\n")

    assert cgroups.processes("lab", root=layout) == {11, 12, 13}
    assert cgroups.processes("lab", cgroups.SYSTEM, layout) == {11, 12}
    assert cgroups.processes("other", root=layout) == frozenset()


@can_make_groups
def test_every_process_in_a_group_is_ended_and_the_group_is_gone() -> None:
    cgroups.create(NAME)
    join = f"echo $$ > {cgroups.members_file(NAME)} && sleep 60 & sleep 60"
    with subprocess.Popen(["sh", "-c", f"echo $$ > {cgroups.members_file(NAME)}; {join}; wait"]) as shell:
        while len(cgroups.processes(NAME)) < 3 and shell.poll() is None:
            continue

        killed = cgroups.remove(NAME)

        assert shell.wait(5) == -9
    assert killed >= 3
    assert not cgroups.exists(NAME)


@can_make_groups
def test_removing_what_is_not_there_is_no_error() -> None:
    assert cgroups.remove(NAME) == 0
