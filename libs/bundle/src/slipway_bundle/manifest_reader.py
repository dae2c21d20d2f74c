"""Reading `slipway.json`: bytes to a `Manifest` that keeps every rule that can be checked without a blob.

It opens no file. The invariant: a `Manifest` that came out of here is canonical, consistent and of a version that this
code knows; everything behind it may rely on that. Source: `docs/bundle-v1.md`.
"""

import re

import msgspec

from slipway_bundle.canonical import canonical_json, decode_json
from slipway_bundle.digest import is_digest
from slipway_bundle.errors import ManifestError, ManifestVersionError
from slipway_bundle.identity import content_digest
from slipway_bundle.keys import unknown_keys
from slipway_bundle.manifest import SCHEMA_VERSION, Manifest, encode_manifest

_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


def decode_manifest(data: bytes, *, where: str = "slipway.json") -> Manifest:
    """Reads a manifest and checks every rule that needs no blob.

    A newer minor version may have fields that are not known here; they are ignored. In a known version they are errors.

    Raises:
        JsonError: Not strict JSON: a duplicate key, NaN, an integer beyond 2**53 - 1, more than 4 MiB.
        ManifestVersionError: The major version is not 1.
        ManifestError: Not canonical, a wrong field, or a content digest that does not follow.
    """
    raw = decode_json(data, dict[str, object], what=where)
    is_newer = _check_version(raw.get("schemaVersion"), where)
    if canonical_json(raw) != data:
        raise ManifestError(
            f"manifest is not in canonical form (RFC 8785), in {where}",
            hint="the manifest was edited after `slipway bundle build`; build it again",
        )
    if not is_newer:
        for unknown in unknown_keys(raw, Manifest):
            raise ManifestError(
                f"manifest has an unknown field `{unknown.path}`, got version {raw['schemaVersion']}, in {where}",
                hint=unknown.hint,
                field=unknown.path,
            )
    try:
        manifest = msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"manifest is not valid: {error}, in {where}") from error
    if not is_newer and encode_manifest(manifest) != data:
        raise ManifestError(f"manifest spells out a default value, expected it left out, in {where}")
    _check_consistent(manifest, where)
    return manifest


def _check_version(version: object, where: str) -> bool:
    """Whether the manifest is of a newer minor version than this code."""
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise ManifestError(
            f"`schemaVersion` is not a version: got {version!r}, expected a form like '1.0', in {where}"
        )
    major, minor = int(match[1]), int(match[2])
    known_major, known_minor = map(int, SCHEMA_VERSION.split("."))
    if major != known_major:
        raise ManifestVersionError(
            f"manifest has version {version}, this slipway reads {known_major}.x, in {where}",
            hint="use a newer slipway" if major > known_major else "build the bundle again with this slipway",
            got=version if isinstance(version, str) else None,
            expected=f"{known_major}.x",
        )
    return minor > known_minor


def _check_consistent(manifest: Manifest, where: str) -> None:
    for path, digest in _digests(manifest):
        if not is_digest(digest):
            raise ManifestError(
                f"`{path}` is not a digest: got {digest!r}, expected 'sha256:' and 64 hex digits, in {where}"
            )
    for path, names in (
        ("models", [model.name for model in manifest.models]),
        ("files", [file.path for file in manifest.files]),
        ("attachments", [attachment.name for attachment in manifest.attachments]),
    ):
        if names != sorted(set(names), key=str.encode):
            raise ManifestError(f"`{path}` is not sorted by name, or has a name twice, in {where}")
    for name, digest in (("golden", manifest.golden.digest), ("environment-lock", manifest.environment.lock)):
        attachment = manifest.attachment(name)
        if attachment is None or attachment.digest != digest:
            raise ManifestError(
                f"attachment {name!r} is missing, or is not the one that the manifest names, in {where}"
            )
    for path in _paths(manifest):
        if not path or path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in path.split("/")):
            raise ManifestError(f"path {path!r} is not relative and plain, in {where}")
    expected = content_digest(manifest)
    if manifest.content_digest != expected:
        raise ManifestError(
            f"`contentDigest` does not match: got {manifest.content_digest}, expected {expected}, in {where}",
            hint="the manifest was edited after `slipway bundle build`; build it again",
            got=manifest.content_digest,
            expected=expected,
        )


def _digests(manifest: Manifest) -> list[tuple[str, str]]:
    named = [
        ("contentDigest", manifest.content_digest),
        ("service.layer", manifest.service.layer),
        ("environment.lock", manifest.environment.lock),
        ("golden.digest", manifest.golden.digest),
    ]
    named += [(f"attachments.{item.name}.digest", item.digest) for item in manifest.attachments]
    named += [(f"files.{item.path}.sha256", f"sha256:{item.sha256}") for item in manifest.files]
    for model in manifest.models:
        named += [(f"models.{model.name}.files.{file.path}.layer", file.layer) for file in model.files]
        named += [(f"models.{model.name}.files.{file.path}.sha256", f"sha256:{file.sha256}") for file in model.files]
    return named


def _paths(manifest: Manifest) -> list[str]:
    paths = [manifest.service.prefix] + [manifest.service.code] * (manifest.service.code != ".")
    paths += [file.path for file in manifest.files]
    paths += [f"{model.name}/{file.path}" for model in manifest.models for file in model.files]
    return paths
