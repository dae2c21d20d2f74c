"""The table of programs and the Go modules under tools/: each says what the other says."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from slipway_lab.crds import SOURCES
from slipway_lab.programs import KUBERNETES, PROGRAMS
from slipway_lab.schemas import VERSIONS

TOOLS = Path(__file__).parents[1]
FOLDERS = sorted({program.folder for program in PROGRAMS.values()} | {"crds"})


def test_every_program_of_another_module_is_a_tool_of_its_folder_and_no_other_is() -> None:
    listed = {program.name: program.package for program in PROGRAMS.values() if program.package != "."}

    tools = {package for folder in FOLDERS for package in _block("tool", _read(folder, "go.mod"))}

    assert tools == set(listed.values())


def test_a_program_is_called_as_go_calls_it() -> None:
    names = {program.package.removesuffix("/v3").rpartition("/")[2] for program in PROGRAMS.values()} - {"."}

    assert names == (set(PROGRAMS) | {"server"}) - {"pause", "etcd"}, "etcd's main package is called server"


@pytest.mark.parametrize("folder", sorted({*FOLDERS} - {"pause"}))
def test_every_module_that_is_required_has_its_sum(folder: str) -> None:
    sums = _read(folder, "go.sum")
    replaced = dict(re.findall(r"^\s*(\S+) => (\S+ v\S+)$", _read(folder, "go.mod"), re.MULTILINE))
    required = [line.partition(" //")[0] for line in _block("require", _read(folder, "go.mod"))]

    needed = {replaced.get(module.split()[0], module) for module in required}
    missing = sorted(module for module in needed if f"{module} h1:" not in sums and f"{module}/go.mod h1:" not in sums)

    assert [module for module in missing if "dynamic/ext" not in module] == []
    assert len(required) > 0


def test_kubernetes_and_its_parts_are_of_one_version() -> None:
    text = _read("kubernetes", "go.mod")

    parts = set(re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ (v\S+)$", text, re.MULTILINE))

    assert f"\tk8s.io/kubernetes {KUBERNETES} " in text
    assert parts == {KUBERNETES.replace("v1.", "v0.")}


def test_every_kubernetes_says_its_version() -> None:
    unstamped = [
        program.name
        for program in PROGRAMS.values()
        if program.folder == "kubernetes" and f"gitVersion={KUBERNETES}" not in program.ldflags
    ]

    assert unstamped == []


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_source_of_crds_is_pinned_by_version_and_sum(name: str) -> None:
    source = SOURCES[name]
    (version,) = re.findall(rf"^\t{re.escape(source.module)} (v\S+)", _read(source.folder, "go.mod"), re.MULTILINE)

    assert f"{source.module} {version} h1:" in _read(source.folder, "go.sum")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_the_schemas_is_pinned(version: str) -> None:
    folder = "kubernetes" if version == KUBERNETES else "crds"

    assert f"k8s.io/kubernetes {version} h1:" in _read(folder, "go.sum")


def _read(folder: str, name: str) -> str:
    return (TOOLS / folder / name).read_text()


def _block(word: str, text: str) -> Iterable[str]:
    """The entries of a directive, written one by one or in parentheses."""
    for single, block in re.findall(rf"^{word} (?:([^(\n]+)|\(\n(.*?)^\))", text, re.MULTILINE | re.DOTALL):
        yield from [single.strip()] if single else [line.strip() for line in block.splitlines()]
