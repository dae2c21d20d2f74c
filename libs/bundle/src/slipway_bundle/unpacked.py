"""A bundle whose layers lie unpacked in one folder: what a running image is, with `/` as the folder.

    ROOT/opt/slipway/slipway.json  attachments/NAME     the manifest, what it names
    ROOT/opt/app/…                 models/MODEL/FILE    code and weights

It needs no store and writes nothing. The invariant: documents and code are checked against the manifest before they are
used. Weights are checked by their size only: the layer's digest was checked when the image was pulled, and hashing them
again at every start would read all of a file that is otherwise mapped.
Source: `docs/bundle-v1.md`, section 3.5.
"""

from pathlib import Path
from typing import Final

from slipway_bundle.canonical import MAX_JSON_BYTES
from slipway_bundle.digest import digest_bytes
from slipway_bundle.errors import FileError, ManifestError
from slipway_bundle.manifest import Manifest
from slipway_bundle.manifest_reader import decode_manifest
from slipway_bundle.weights import WeightsFile

__all__ = ["ATTACHMENTS", "DOCUMENTS", "MANIFEST", "attachment", "read_unpacked", "weights_files"]

DOCUMENTS: Final = "opt/slipway"
MANIFEST: Final = f"{DOCUMENTS}/slipway.json"
ATTACHMENTS: Final = f"{DOCUMENTS}/attachments"


def read_unpacked(root: Path) -> Manifest:
    """The manifest below `root`, and its code compared with it.

    Raises:
        ManifestVersionError, ManifestError, JsonError: The manifest, or a code file that is not what it says.
        FileError: A file is missing or cannot be read.
    """
    manifest = decode_manifest(_read(root / MANIFEST, MAX_JSON_BYTES), where=str(root / MANIFEST))
    for file in manifest.files:
        path = root / manifest.service.prefix / file.path
        if (got := digest_bytes(_read(path, file.size))) != f"sha256:{file.sha256}":
            raise _changed(path, got, f"sha256:{file.sha256}")
    return manifest


def attachment(root: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of a named attachment, verified.

    Raises:
        ManifestError: The manifest names no such attachment, or other bytes.
        FileError: It is missing or cannot be read.
    """
    named = manifest.attachment(name)
    if named is None:
        raise ManifestError(f"the bundle in {str(root)!r} has no attachment {name!r}")
    path = root / ATTACHMENTS / name
    data = _read(path, named.size)
    if (got := digest_bytes(data)) != named.digest:
        raise _changed(path, got, named.digest)
    return data


def weights_files(root: Path, manifest: Manifest) -> dict[str, WeightsFile]:
    """Model -> its weights. Models that share a file find it under the first of their names.

    Raises:
        ManifestError: A file has another size than the manifest says.
        HostError: A file is missing or cannot be looked at.
    """
    first: dict[tuple[str, int], str] = {}
    found = {}
    for model in manifest.models:
        file = model.files[0]
        owner = first.setdefault((file.layer, file.offset), model.name)
        whole = WeightsFile.whole(root / "models" / owner / file.path)
        if whole.size != file.size:
            raise _changed(whole.path, f"{whole.size} bytes", f"{file.size} bytes")
        found[model.name] = whole
    return found


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error


def _changed(path: Path, got: str, expected: str) -> ManifestError:
    return ManifestError(
        f"{str(path)!r} is not what the manifest says: got {got}, expected {expected}",
        hint="the image was changed after `slipway bundle image`; pull it again by its digest",
        path=str(path),
        got=got,
        expected=expected,
    )
