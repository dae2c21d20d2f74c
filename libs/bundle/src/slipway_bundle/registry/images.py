"""Base images: any OCI or Docker image by digest, for one platform, into the local store.

It judges no image and lists none: the bundle that is built on it keeps its layers. The invariants: what comes has its
digest, as it is (no layer is converted); by digest, and with everything here already, no network is used.
"""

from collections.abc import Callable, Mapping
from functools import partial

from slipway_bundle.canonical import decode_json
from slipway_bundle.digest import Digest
from slipway_bundle.errors import SlipwayError
from slipway_bundle.oci import MANIFEST_TYPES, Descriptor, Platform
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.registry.documents import Document, decode_document, read_document
from slipway_bundle.registry.errors import RemoteNotFoundError
from slipway_bundle.registry.layout_registry import LayoutRegistry, holds
from slipway_bundle.registry.moving import JOBS, Shared, run_all, workers
from slipway_bundle.registry.opening import opened
from slipway_bundle.registry.protocol import Registry
from slipway_bundle.registry.remote import parse_remote
from slipway_bundle.registry.retries import Retry
from slipway_bundle.store import Store

__all__ = ["pull_image"]

DEFAULT_VARIANTS = {"arm64": "v8"}
"""What an image that names no variant, or this one, means the same by."""


def pull_image(
    source: str,
    store: Store,
    platform: Platform,
    *,
    environ: Mapping[str, str],
    progress: Progress = QUIET,
    tell: Callable[[str], None] = lambda _line: None,
    is_insecure: bool = False,
    retry: Retry | None = None,
    jobs: int = JOBS,
) -> Descriptor:
    """Brings the image for `platform` into `store`: manifest, config and layers.

    Args:
        source: `HOST/REPOSITORY@sha256:…`, `…:TAG` or `oci:FOLDER[:TAG]`.
        store: Where it shall be; hold a lease until something refers to it.
        platform: Its `os` and `architecture`, and its `variant` when it has one.
        environ: See `open_registry`.
        progress: Told the bytes of the layers, whether they come or are here.
        tell: Told what a tag meant, for the record.
        is_insecure: Allow plain HTTP beyond this machine.
        retry: How often and how long to try.
        jobs: How many transfers beside each other.

    Returns:
        The image's own manifest, not an index; its media type is OCI's or Docker's.

    Raises:
        RemoteNotFoundError: Nothing there, or not for this platform; the message lists those that are.
        IntegrityError, HostError: As `pull`.
    """
    remote = parse_remote(source)
    if remote.digest is not None and (known := _known(store, remote.digest, platform, source, progress)) is not None:
        return known
    with (
        store.lease(),
        opened(remote, environ=environ, is_insecure=is_insecure, retry=retry) as registry,
        workers(jobs, registry) as pool,
    ):
        data, descriptor = registry.read_manifest(_reference(registry, remote.digest or remote.tag, source))
        if remote.digest is None:
            tell(f"{source} is {descriptor.digest}")
        document = decode_document(data, descriptor)
        documents = [document]
        while document.children:
            document = read_document(registry, _choose(document, platform, source))
            documents.append(document)
        bring = partial(_bring, registry, store, Shared(progress))
        config, *layers = document.leaves
        bring(config)
        _require_platform(store, document, platform, source)
        run_all(pool, bring, list({layer.digest: layer for layer in layers}.values()))
        for each in documents:
            store.put_bytes(each.data, each.descriptor.media_type)
        return _plain(document.descriptor)


def _bring(registry: Registry, store: Store, progress: Progress, leaf: Descriptor) -> None:
    if holds(store, leaf):
        progress.advance(leaf.size)
    else:
        registry.fetch_blob(leaf, store, progress)


def _reference(registry: Registry, wanted: str | None, source: str) -> str:
    """A layout with one image needs no tag."""
    if wanted is not None:
        return wanted
    if isinstance(registry, LayoutRegistry):
        entries = registry.store.entries()
        if len(entries) == 1:
            return entries[0].digest
    return parse_remote(source).reference  # which says what is missing


def _known(store: Store, digest: Digest, platform: Platform, source: str, progress: Progress) -> Descriptor | None:
    """The image, when all of it is here: a warm build needs no network."""
    here = LayoutRegistry(store)
    try:
        data, descriptor = here.read_manifest(digest)
        document = decode_document(data, descriptor)
        while document.children:
            document = read_document(here, _choose(document, platform, source))
        if not all(holds(store, leaf) for leaf in document.leaves):
            return None
        _require_platform(store, document, platform, source)
    except SlipwayError:
        return None  # not here, or damaged: the registry has the last word
    for leaf in document.leaves:
        progress.advance(leaf.size)
    return _plain(document.descriptor)


def _choose(index: Document, platform: Platform, source: str) -> Descriptor:
    fitting = [child for child in index.children if child.platform and _fits(child.platform, platform)]
    if not fitting:
        there = sorted({_text(child.platform) for child in index.children if child.platform} - {"unknown/unknown"})
        raise RemoteNotFoundError(
            f"{source!r} is not there for {_text(platform)}: it has {', '.join(there) or 'no platforms'}",
            hint="choose another base image",
            ref=source,
        )
    return fitting[0]  # the first one, as every runtime does


def _require_platform(store: Store, document: Document, platform: Platform, source: str) -> None:
    """An image without an index says in its config what it runs on."""
    if document.descriptor.media_type not in MANIFEST_TYPES:
        return
    # As a platform: Docker's configs have null where OCI's have nothing, and nothing else of them is read here.
    found = decode_json(store.read(document.leaves[0].digest), Platform, what=f"the config of {source!r}")
    if (found.os, found.architecture) != (platform.os, platform.architecture):
        raise RemoteNotFoundError(
            f"{source!r} is not there for {_text(platform)}: it is for {_text(found)}",
            hint="choose another base image",
            ref=source,
        )


def _fits(offered: Platform, wanted: Platform) -> bool:
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return False
    default = DEFAULT_VARIANTS.get(wanted.architecture)
    return (offered.variant or default) == (wanted.variant or default)


def _plain(descriptor: Descriptor) -> Descriptor:
    return Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)


def _text(platform: Platform) -> str:
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)
