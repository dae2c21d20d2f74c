"""An image of programs: what is in it, how it begins, and that it is the same whoever builds it."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from image_fakes import Workshop

from slipway_bundle.digest import Digest
from slipway_bundle.environment import Environment
from slipway_bundle.errors import LockError, UsageError
from slipway_bundle.image.errors import BaseError
from slipway_bundle.image.programs import (
    Command,
    ProgramsEnvironment,
    ProgramsImage,
    make_programs_image,
    merge_environments,
)
from slipway_bundle.image.settings import ImageOptions
from slipway_bundle.manifest import Package
from slipway_bundle.oci import ImageConfig, ImageIndex, ImageManifest
from slipway_bundle.requirements import parse_lock
from slipway_bundle.store import Store

COMMAND = Command("slip", "slipway_bundle.__main__:main")
OURS = Package(name="slipway-bundle", version="0.1.0")


@pytest.fixture(scope="module")
def workshop(trained: object, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Wheels in the cache, and a base without a program that could run."""
    made = Workshop.make(tmp_path_factory.mktemp("programs") / "workshop", trained)  # type: ignore[arg-type]  # Trained
    made.fetch()
    return made


def programs(workshop: Workshop) -> ProgramsEnvironment:
    lock = (workshop.folder / "requirements.lock").read_text()
    return ProgramsEnvironment(locked=parse_lock(lock, where="lock"), members=(OURS,))


def made(workshop: Workshop, root: Path, **more: object) -> tuple[Store, ProgramsImage]:
    """In a layout of its own."""
    store = Store.open(root)
    options = workshop.options(**{"platforms": ("linux/amd64", "linux/arm64"), **more})
    return store, make_programs_image(
        store, "slip:0.1.0", programs(workshop), options, command=COMMAND, environ=workshop.environ
    )


def files(store: Store, manifest: ImageManifest) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Every member of every layer above the base."""
    for layer in manifest.layers[1:]:
        plain = zstandard.ZstdDecompressor().stream_reader(store.read(layer.digest))
        with tarfile.open(fileobj=plain, mode="r|") as archive:
            for member in archive:
                read = archive.extractfile(member) if member.isfile() else None
                yield member, read.read() if read else b""


@pytest.mark.e2e
def test_it_begins_with_its_command_as_nobody_for_each_platform(workshop: Workshop, tmp_path: Path) -> None:
    store, image = made(workshop, tmp_path / "out")

    index = store.read_json(image.digest, ImageIndex)
    platforms = [child.platform for child in index.manifests]
    manifest = store.read_json(index.manifests[0].digest, ImageManifest)
    config = store.read_json(Digest(manifest.config.digest), ImageConfig)
    found = {member.name: (member, data) for member, data in files(store, manifest)}
    site = "opt/venv/lib/python3.11/site-packages"
    assert [one and one.architecture for one in platforms] == ["amd64", "arm64"]
    assert (config.config.user, config.config.entrypoint) == ("65532:65532", ("/opt/venv/bin/slip",))
    assert config.config.cmd == ()
    assert config.created is None
    assert found["opt/venv/bin/slip"][1].startswith(b"#!/opt/venv/bin/python\n")
    assert found["opt/venv/bin/slip"][0].mode == 0o755
    assert f"{site}/slipway_bundle/store.py" in found
    assert f"{site}/purepack/__init__.py" in found
    assert {(member.uid, member.mtime) for member, _ in found.values()} == {(65532, 0)}
    environment = json.loads(found["opt/slipway/environment.json"][1])
    assert {wheel["name"] for wheel in environment["wheels"]} == {"purepack", "nativepack"}


@pytest.mark.e2e
def test_two_builders_make_one_digest(workshop: Workshop, tmp_path: Path) -> None:
    """Other folders, another order of members; the second knows no layer."""
    _, first = made(workshop, tmp_path / "one")
    store, second = made(workshop, tmp_path / "two")
    _, again = made(workshop, tmp_path / "two")

    assert first.digest == second.digest == again.digest
    assert (second.is_new, again.is_new) == (True, False)
    assert [ref.text for ref in store.refs()] == ["slip:0.1.0"]


@pytest.mark.parametrize(
    ("base", "entry", "error", "match"),
    [
        ("registry.example.com/python:3.11", "a.b:c", BaseError, "named by a tag"),
        (None, "a.b:c", BaseError, "no base image"),
        ("oci:nowhere", "rm -rf", UsageError, r"is no `package\.module:function`"),
    ],
)
def test_a_base_by_tag_and_a_command_that_is_none_are_refused(
    tmp_path: Path, base: str | None, entry: str, error: type[Exception], match: str
) -> None:
    """Before anything is fetched."""
    programs = ProgramsEnvironment(locked=(), members=(OURS,))
    options = ImageOptions(wheels=tmp_path / "wheels", base=base)

    with pytest.raises(error, match=match):
        make_programs_image(
            Store.open(tmp_path / "out"), "slip:0.1.0", programs, options, command=Command("slip", entry), environ={}
        )

    assert not (tmp_path / "wheels").exists()


def environment(version: str, *, member: str) -> Environment:
    lock = f"numpy=={version} \\\n    --hash=sha256:{'0' * 64}\n    # via x (pyproject.toml)\n"
    members = (Package(name=member, version="0.1.0"),)
    return Environment(python=">=3.11", lock=lock, packages=(), members=members, sources=())


def test_environments_of_one_lock_become_one_and_of_two_are_refused() -> None:
    merged = merge_environments([environment("2.0", member="b"), environment("2.0", member="a")])

    assert [one.name for one in merged.members] == ["a", "b"]
    assert [one.name for one in merged.locked] == ["numpy"]
    with pytest.raises(LockError, match=r"numpy is 2\.0 and 2\.1"):
        merge_environments([environment("2.0", member="a"), environment("2.1", member="b")])
