"""The identity of a bundle: its content digest, and the version that is made from it.

Pure functions of the manifest: a reader recomputes the content digest without a single blob. The invariant: whatever
changes answers, or says what they must be, is in the listing; when, where and by whom it was built is not, and neither
is lineage or `[runtime]`. Source: `docs/bundle-v1.md`, which has a worked example.
"""

from msgspec import Struct

from slipway_bundle.canonical import canonical_json
from slipway_bundle.config import Format
from slipway_bundle.digest import Digest, digest_bytes, hex_of, short
from slipway_bundle.manifest import Manifest, Source

HASHED_ATTACHMENTS = ("environment-lock", "golden", "schema")
"""The attachments that the content digest covers: those that change answers or say what they must be."""


def content_listing(manifest: Manifest) -> bytes:
    """What the content digest is the SHA-256 of: one line a file, sorted by the bytes of the path.

    Each line is `file SP mode SP size SP sha256 SP len(path) ":" path LF`; `len` counts UTF-8 bytes. Paths are
    `code/…`, `models/<model>/…`, `attachments/<name>` and `config.json`.
    """
    lines: list[tuple[bytes, str, int, str]] = []
    config = canonical_json(_hashed_config(manifest))
    lines.append((b"config.json", "0644", len(config), hex_of(digest_bytes(config))))
    lines.extend((f"code/{file.path}".encode(), file.mode, file.size, file.sha256) for file in manifest.files)
    for model in manifest.models:
        for weights in model.files:
            path = f"models/{model.name}/{weights.path}".encode()
            lines.append((path, "0644", weights.size, weights.sha256))
    for attachment in manifest.attachments:
        if attachment.name in HASHED_ATTACHMENTS:
            path = f"attachments/{attachment.name}".encode()
            lines.append((path, "0644", attachment.size, attachment.digest.removeprefix("sha256:")))
    return b"".join(
        f"file {mode} {size} {sha256} {len(path)}:".encode() + path + b"\n"
        for path, mode, size, sha256 in sorted(lines)
    )


def content_digest(manifest: Manifest) -> Digest:
    """Digest of the content listing: the same for the same models, code, examples, lock, schema and configuration."""
    return digest_bytes(content_listing(manifest))


def default_version(source: Source | None, content: Digest) -> str:
    """`g<commit7>-<content12>`, with `-dirty` for a changed working tree; `c-<content12>` without git."""
    if source is None:
        return f"c-{short(content)}"
    return f"g{source.commit[:7]}-{short(content)}" + ("-dirty" if source.dirty else "")


class _HashedModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: Format
    outputs: dict[str, str] = {}
    columns: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = {}


class _HashedConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of `[bundle]` that changes answers."""

    entry: str
    code: str
    models: dict[str, _HashedModel]


def _hashed_config(manifest: Manifest) -> _HashedConfig:
    return _HashedConfig(
        entry=manifest.service.entry,
        code=manifest.service.code,
        models={
            model.name: _HashedModel(
                format=model.format, outputs=model.outputs, columns=model.columns, categories=model.categories
            )
            for model in manifest.models
        },
    )
