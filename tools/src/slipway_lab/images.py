"""The image that every pod needs first, and the registry that all others come from.

The pause image is written here, file by file, from the program `pause`: an OCI layout in a tar, the same bytes for the
same program. Other images are pushed to the registry by whoever has them, and pulled by digest.
Source: https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from slipway_lab import network
from slipway_lab.control_plane import answers
from slipway_lab.node import PAUSE_IMAGE, SOCKET
from slipway_lab.processes import Programs, Recipe
from slipway_lab.state import Place
from slipway_lab.system import require

REGISTRY_PORT: Final = 5000
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def write_pause(file: Path, program: Path, machine: str) -> None:
    """The pause image as a tar.

    Args:
        file: To write.
        program: A static program that waits.
        machine: As uname(1) says it.
    """
    layer = _tar({"pause": program.read_bytes()}, mode=0o755)
    config = _json(
        {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    named = _descriptor(MANIFEST, manifest) | {"annotations": {"io.containerd.image.name": PAUSE_IMAGE}}
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [named]}),
        **{f"blobs/{_digest(blob).replace(':', '/')}": blob for blob in (layer, config, manifest)},
    }
    file.write_bytes(_tar(files))


def import_command(programs: Programs, file: Path) -> tuple[str, ...]:
    """Makes an image tar known to the node; it runs among the node's mounts."""
    return (str(programs["ctr"]), f"--address={SOCKET}", "--namespace=k8s.io", "images", "import", str(file))


def registry(place: Place) -> Recipe:
    """The registry, on disk; it forgets nothing until the lab is gone."""
    folder = place.folder / "registry"
    folder.mkdir(exist_ok=True)
    settings = folder / "config.yaml"
    settings.write_text(
        yaml.safe_dump(
            {
                "version": 0.1,
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
                "http": {"addr": f"{network.NODE}:{REGISTRY_PORT}"},
            }
        )
    )
    return Recipe(name="registry", command=(str(require("docker-registry")), "serve", str(settings)))


def is_registry_ready() -> bool:
    """Whether it answers. Raises OSError: it does not listen yet."""
    return answers("http", str(network.NODE), REGISTRY_PORT, "/v2/")


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
