"""Wheels for an image: hash-checked, for the target and not for this machine, from the cache when it knows them."""

import os
from pathlib import Path

import pytest
from image_fakes import NATIVE, PURE, Workshop, make_wheel

from slipway_bundle.digest import digest_bytes
from slipway_bundle.image.archives import LayerWriter, put_archive
from slipway_bundle.image.errors import DownloadError, MemberError, WheelMismatchError, WheelMissingError
from slipway_bundle.image.installing import install_members, install_wheels
from slipway_bundle.image.wheels import Wheel, fetch_wheels
from slipway_bundle.manifest import Package
from slipway_bundle.requirements import Locked, parse_lock
from slipway_bundle.store import Store
from slipway_bundle.targets import parse_target

TARGET = parse_target("linux/amd64", python="3.11")


def block(name: str, *wheels: Path) -> Locked:
    hashes = tuple(digest_bytes(path.read_bytes()) for path in wheels)
    return Locked(name=name, version="1.0", marker=None, hashes=hashes, via=())


@pytest.fixture
def locked(workshop: Workshop) -> tuple[Locked, ...]:
    blocks = parse_lock((workshop.folder / "requirements.lock").read_text(), where="lock")
    return tuple(block for block in blocks if block.marker is None)


def test_a_warm_cache_asks_nobody(workshop: Workshop, locked: tuple[Locked, ...]) -> None:
    """No pip runs: it would fail without PATH, index and home."""
    wheels = fetch_wheels(locked, TARGET, workshop.root / "wheels", environ={"PIP_INDEX_URL": "http://127.0.0.1:1"})

    assert [wheel.name for wheel in wheels] == ["nativepack", "purepack"]
    for wheel in wheels:
        assert digest_bytes(wheel.path.read_bytes()) == f"sha256:{wheel.sha256}"
        assert wheel.path.parent.name == wheel.sha256


def test_a_wheel_for_another_machine_is_no_wheel(workshop: Workshop, tmp_path: Path) -> None:
    wheel = make_wheel(workshop.root / "index", "armonly", NATIVE[1], {"armonly.so": b""})

    with pytest.raises(WheelMissingError, match=r"armonly==1.0 has no wheel for linux/amd64") as caught:
        fetch_wheels([block("armonly", wheel)], TARGET, tmp_path / "wheels", environ=workshop.environ)

    assert "sdists are not built" in str(caught.value.hint)


def test_an_index_that_nobody_answers_at_is_no_missing_wheel(workshop: Workshop, tmp_path: Path) -> None:
    wheel = make_wheel(workshop.root / "index", "faraway", PURE, {"faraway.py": b""})
    environ = os.environ | {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1"}

    with pytest.raises(DownloadError, match="could not fetch the wheels") as caught:
        fetch_wheels([block("faraway", wheel)], TARGET, tmp_path / "wheels", environ=environ)

    assert "pip config list" in str(caught.value.hint)


def test_an_index_with_other_bytes_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    wheel = make_wheel(workshop.root / "index", "swapped", PURE, {"swapped.py": b"good = 1\n"})
    wanted = block("swapped", wheel)
    make_wheel(workshop.root / "index", "swapped", PURE, {"swapped.py": b"evil = 1\n"})

    with pytest.raises(WheelMismatchError, match="does not have a hash of the lock"):
        fetch_wheels([wanted], TARGET, tmp_path / "wheels", environ=workshop.environ)

    assert not list((tmp_path / "wheels").rglob("*.whl"))


def test_a_wheel_that_changed_in_the_cache_is_refused(workshop: Workshop) -> None:
    """The choice is trusted, the bytes are not."""
    wheel = next((workshop.root / "wheels").rglob("purepack*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")

    with pytest.raises(WheelMismatchError, match="changed in the cache"):
        workshop.add()


def install(store: Store, wheel: Path) -> None:
    digest = digest_bytes(wheel.read_bytes()).removeprefix("sha256:")
    found = Wheel(name="bad", version="1.0", sha256=digest, size=1, path=wheel)
    with store.lease():
        put_archive(store, lambda layer: install_wheels([found], TARGET, layer), "none")


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "bad-1.0.data/scripts/../../../evil"])
def test_a_wheel_writes_nowhere_else(tmp_path: Path, path: str) -> None:
    store = Store.open(tmp_path / "store")

    with pytest.raises(WheelMismatchError, match="cannot be unpacked"):
        install(store, make_wheel(tmp_path, "bad", PURE, {path: b"root::0:0"}))

    assert list(store.layout.blobs.iterdir()) == []


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    made = [make_wheel(tmp_path, name, PURE, {"shared.py": b""}) for name in ("one", "two")]
    wheels = [
        Wheel(name=path.name, version="1.0", sha256=digest_bytes(path.read_bytes())[7:], size=1, path=path)
        for path in made
    ]

    with store.lease(), pytest.raises(WheelMismatchError, match="in the layer already"):
        put_archive(store, lambda layer: install_wheels(wheels, TARGET, layer), "none")


class Recorder:
    """A layer that remembers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add(self, name: str, data: bytes, *, is_program: bool = False) -> None:
        self.files[name] = data


def test_a_member_of_the_workspace_comes_with_its_metadata_and_without_byte_code() -> None:
    layer = Recorder()

    install_members([Package(name="slipway-bundle", version="0.1.0")], TARGET, layer)  # type: ignore[arg-type]  # by shape

    site = "opt/venv/lib/python3.11/site-packages"
    assert f"{site}/slipway_bundle/store.py" in layer.files
    assert b"Name: slipway-bundle" in layer.files[f"{site}/slipway_bundle-0.1.0.dist-info/METADATA"]
    assert not [name for name in layer.files if "__pycache__" in name]
    home = str(Path.cwd()).encode()
    assert not [name for name, data in layer.files.items() if home in data]


def test_a_member_in_another_version_is_refused() -> None:
    with pytest.raises(MemberError, match=r"slipway-bundle 9.9 of its workspace: got 0.1.0"):
        install_members([Package(name="slipway-bundle", version="9.9")], TARGET, Recorder())  # type: ignore[arg-type]  # by shape


def test_no_secret_and_no_index_is_in_an_image(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip needs to know stays with pip, also when it says so in a wheel's metadata folder."""
    secret, host = "hunter2-hunter2", "index.internal.example"
    shared = dict.fromkeys(("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"), f"https://user:{secret}@{host}/simple")
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    for path in (workshop.root / "wheels").rglob("*"):
        if path.is_file():
            path.unlink()

    imaged = workshop.add(compression="none")

    for layer in imaged.images[0].layers:
        data = workshop.store.blob(layer.digest).read_bytes()
        for word in (secret, host, str(workshop.root), "direct_url.json"):
            assert word.encode() not in data, (layer.role, word)
    for reached in workshop.store.walk(workshop.store.find(imaged.ref).descriptor):
        if reached.media_type.endswith("json"):
            assert secret.encode() not in workshop.store.read(reached.digest)
            assert host.encode() not in workshop.store.read(reached.digest)


def test_a_writer_takes_a_name_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")

    def fill(layer: LayerWriter) -> None:
        layer.add("a/b", b"")
        layer.link("a/b", "c")

    with store.lease(), pytest.raises(ValueError, match="in the layer already"):
        put_archive(store, fill, "zstd")

    assert list(store.layout.ingest.iterdir()) == []
