"""The base of an image: what is pulled, which interpreter it has, and what of its configuration stays.

It unpacks nothing and runs nothing of the base: layers are read as streams, for names. The invariants: a base is named
by its digest, or is a layout on this disk; its layers go into the image as they are, byte for byte; an image never
begins as root and never begins with the base's own program.
Sources: OCI image-spec v1.1.1, config.md; Docker image manifest v2, schema 2.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.digest import Digest
from slipway_bundle.disk import disk_errors, write_file
from slipway_bundle.image.errors import BaseError, ImagePlatformError
from slipway_bundle.layout import EXTRAS
from slipway_bundle.oci import LAYER_TYPE, Descriptor, History, ImageManifest, Platform, RootFs
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.store import Store
from slipway_bundle.targets import Target, parse_target

__all__ = ["Base", "check_source", "load_base", "pull_base"]

LAYER_TYPES: Final = {
    LAYER_TYPE: LAYER_TYPE,
    f"{LAYER_TYPE}+gzip": f"{LAYER_TYPE}+gzip",
    f"{LAYER_TYPE}+zstd": f"{LAYER_TYPE}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER_TYPE}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{LAYER_TYPE}+zstd",
}
"""What a base's layers may be -> OCI's name for the same bytes."""

PLACES: Final = ("usr/local/bin", "usr/bin", "bin")
"""Where an interpreter is looked for, in this order: the official Python images, then Debian and distroless."""

_INTERPRETER: Final = re.compile(rf"^(?:\./|/)?({'|'.join(PLACES)})/python(3\.\d+)\Z")
_CPP: Final = re.compile(r"^(?:\./|/)?(?:usr/)?lib(?:64)?/(?:[^/]+/)?libstdc\+\+\.so\.6\Z")
_MUSL: Final = re.compile(r"^(?:\./|/)?(?:usr/)?lib/ld-musl-[^/]+\Z")

MAX_MEMBERS: Final = 200_000
"""Of one layer of a base; more is an attack."""


class Base(Struct, frozen=True, kw_only=True):
    """A base image that is in the store."""

    digest: Digest
    """Of its manifest for this platform."""

    repository: str | None
    """Where it was pulled from, without digest; None for a layout on disk."""

    target: Target
    interpreter: str
    """Absolute path in the image."""

    layers: tuple[Descriptor, ...]
    """With OCI's media types."""

    diff_ids: tuple[str, ...]
    env: tuple[str, ...]
    history: tuple[History, ...]
    variant: str | None = None


class _RunConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What is read of a base's `config`; other writers spell absence as null."""

    env: tuple[str, ...] | None = None


class _Config(Struct, frozen=True, kw_only=True):
    architecture: str
    os: str
    rootfs: RootFs
    variant: str | None = None
    config: _RunConfig | None = None
    history: tuple[History, ...] | None = None


class _Interpreter(Struct, frozen=True):
    path: str
    python: str


def check_source(source: str | None) -> str:
    """`source` when it names a base for good.

    Raises:
        BaseError: There is none, or it is a tag of a registry, which means something else tomorrow.
    """
    if not source:
        raise BaseError(
            "no base image: got none, expected an image with Python, named by its digest",
            hint="give `--base REGISTRY/REPOSITORY@sha256:…` or `--base oci:FOLDER`, or write `base` into "
            "`[runtime.image]` of slipway.toml",
        )
    if not source.startswith("oci:") and "@sha256:" not in source:
        raise BaseError(
            f"the base {source!r} is named by a tag, expected a digest: the same tag is another image tomorrow",
            hint=f"`skopeo inspect --raw docker://{source} | sha256sum` shows the digest of today; "
            "write …@sha256:DIGEST",
            base=source,
        )
    return source


def pull_base(
    source: str, store: Store, platform: str, *, environ: Mapping[str, str], progress: Progress = QUIET
) -> Base:
    """Brings the base into the store and reads it. Hold a lease: nothing refers to it yet.

    Raises:
        BaseError, ImagePlatformError: As `load_base`.
        SlipwayError: As `registry.pull_image`: not found, not allowed, tampered.
    """
    from slipway_bundle.registry.images import pull_image

    architecture = parse_target(platform, python="3.0").architecture
    wanted = Platform(architecture=architecture, os="linux")
    return load_base(store, pull_image(source, store, wanted, environ=environ, progress=progress), platform, source)


def load_base(store: Store, manifest: Descriptor, platform: str, source: str) -> Base:
    """The base whose manifest is in the store. Its layers are read through once for each base, for their names.

    Args:
        store: With all of its blobs.
        manifest: Of the image for one platform.
        platform: `linux/amd64` or `linux/arm64`.
        source: Its name, for messages.

    Raises:
        ImagePlatformError: It is for another platform.
        BaseError: It has no Python where images have one, is no image, or has another C library than wheels need.
        IntegrityError: A blob is missing or damaged.
    """
    document = store.read_json(Digest(manifest.digest), ImageManifest)
    config = store.read_json(Digest(document.config.digest), _Config)
    got = f"{config.os}/{config.architecture}"
    if got != platform:
        raise ImagePlatformError(
            f"the base {source!r} is for {got}, expected {platform}",
            hint=f"`--platform {got}` builds for that one alone",
            base=source,
        )
    layers = tuple(_as_oci(layer, source) for layer in document.layers)
    if len(layers) != len(config.rootfs.diff_ids):
        raise BaseError(
            f"the base {source!r} has {len(layers)} layers and {len(config.rootfs.diff_ids)} diff_ids, "
            "expected one for each",
            base=source,
        )
    found = _interpreter(store, Digest(manifest.digest), layers, source)
    return Base(
        digest=Digest(manifest.digest),
        repository=None if source.startswith("oci:") else source.partition("@")[0],
        target=parse_target(platform, python=found.python),
        interpreter=found.path,
        layers=layers,
        diff_ids=config.rootfs.diff_ids,
        env=(config.config.env or ()) if config.config else (),
        history=config.history or (),
        variant=config.variant,
    )


def _as_oci(layer: Descriptor, source: str) -> Descriptor:
    media_type = LAYER_TYPES.get(layer.media_type)
    if media_type is None:
        raise BaseError(
            f"the base {source!r} has a layer of type {layer.media_type!r}, expected a tar, plain, gzip or zstd",
            base=source,
        )
    return replace(layer, media_type=media_type, annotations={}, urls=())


def _interpreter(store: Store, digest: Digest, layers: tuple[Descriptor, ...], source: str) -> _Interpreter:
    """Where Python is in the base, remembered by its digest in the store's own folder."""
    memory = store.root / EXTRAS / "bases" / f"{digest.removeprefix('sha256:')}.json"
    try:
        return msgspec.json.decode(memory.read_bytes(), type=_Interpreter)
    except (OSError, msgspec.DecodeError):
        pass  # not known yet
    names = set()
    has_cpp = False
    for layer in layers:
        for name in _names(store, layer, source):
            has_cpp = has_cpp or _CPP.match(name) is not None
            if _MUSL.match(name):
                raise BaseError(
                    f"the base {source!r} has the C library musl, expected glibc: wheels of the lock are for that",
                    hint="use a base of Debian, Ubuntu or distroless",
                    base=source,
                )
            if match := _INTERPRETER.match(name):
                names.add((PLACES.index(match[1]), match[1], match[2]))
    if not names:
        raise BaseError(
            f"the base {source!r} has no Python: expected `python3.N` in {', '.join(f'/{place}' for place in PLACES)}",
            hint="use a slim Python image, a distroless Python image or one of your own",
            base=source,
        )
    first, place, _ = min(names)
    versions = sorted({python for rank, _, python in names if rank == first})
    if len(versions) > 1:
        raise BaseError(
            f"the base {source!r} has Python {' and '.join(versions)} in /{place}, expected one", base=source
        )
    if not has_cpp:
        raise BaseError(
            f"the base {source!r} has no libstdc++.so.6, which wheels of numpy and others expect of a Linux (PEP 600)",
            hint="add it to the base (`libstdc++6` in Debian), or use a slim or distroless Python image",
            base=source,
        )
    found = _Interpreter(f"/{place}/python{versions[0]}", versions[0])
    with disk_errors(store.root, "remembering a base"):
        memory.parent.mkdir(exist_ok=True)
        write_file(memory, msgspec.json.encode(found), through=store.layout.ingest, mode=0o644, sync=False)
    return found


def _names(store: Store, layer: Descriptor, source: str) -> Iterator[str]:
    """The names in a layer, which is read to its end; its bytes were verified when it was pulled."""
    import zstandard

    path = store.blob(Digest(layer.digest))
    try:
        with _opened(path, layer.media_type) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            for count, member in enumerate(archive):
                if count > MAX_MEMBERS:
                    raise BaseError(f"layer {layer.digest} of the base {source!r} has more than {MAX_MEMBERS} members")
                yield member.name
    except (tarfile.TarError, zlib.error, zstandard.ZstdError, EOFError, OSError) as error:
        raise BaseError(f"layer {layer.digest} of the base {source!r} cannot be read: {error}", base=source) from error


def _opened(path: Path, media_type: str) -> "IO[bytes] | gzip.GzipFile":
    if media_type.endswith("+gzip"):
        return gzip.open(path, "rb")
    if media_type.endswith("+zstd"):
        import zstandard

        opened: IO[bytes] = zstandard.open(path, "rb")
        return opened
    return path.open("rb")
