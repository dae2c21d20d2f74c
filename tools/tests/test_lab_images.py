"""The pause image: an OCI layout whose digests are right, the same bytes every time."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from slipway_lab import images


def test_the_pause_image_is_whole_and_the_same_every_time(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF...")

    images.write_pause(tmp_path / "one.tar", program, "x86_64")
    images.write_pause(tmp_path / "two.tar", program, "x86_64")

    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    files = _files((tmp_path / "one.tar").read_bytes())
    for name in (name for name in files if name.startswith("blobs/")):
        assert hashlib.sha256(files[name]).hexdigest() == name.removeprefix("blobs/sha256/")
    (named,) = json.loads(files["index.json"])["manifests"]
    assert named["annotations"] == {"io.containerd.image.name": "lab.local/pause:1"}
    manifest = json.loads(files[_path(named)])
    layer = files[_path(manifest["layers"][0])]
    assert _files(layer) == {"pause": program.read_bytes()}
    config = json.loads(files[_path(manifest["config"])])
    assert config["architecture"] == "amd64"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]


def _files(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {entry.name: (opened.extractfile(entry) or io.BytesIO()).read() for entry in opened}


def _path(descriptor: dict[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"
