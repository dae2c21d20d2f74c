"""The bundles of a store as a list, newest first.

It draws nothing. The invariant: a damaged bundle is listed as damaged and hides no other. "Newest" is the order of
publication in this store, because a bundle's own time is that of its commit, and may be absent.
"""

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.errors import SlipwayError
from slipway_bundle.oci import REF_NAME
from slipway_bundle.references import Ref, refs_of
from slipway_bundle.store import Store


class Listed(Struct, frozen=True, kw_only=True):
    """One bundle of the list; part of the object of `--json`."""

    ref: str
    name: str
    version: str
    digest: str
    created: str | None = None
    """RFC 3339; None when the bundle does not say it."""

    size_bytes: int | None = None
    """Of all its layers; None when it cannot be read, or was not asked for."""

    problem: str | None = None
    """Why it cannot be read."""


def list_store(store: Store, name: str | None, *, with_details: bool) -> list[Listed]:
    """The bundles, newest first.

    Args:
        store: Where they are.
        name: Only those of this name.
        with_details: Read each bundle's documents for its time and size: about a millisecond a bundle.

    Raises:
        IntegrityError: The index of the store is damaged.
        HostError: It cannot be read.
    """
    entries = store.entries()
    age = {entry.annotations.get(REF_NAME): place for place, entry in enumerate(entries)}
    refs = [ref for ref in refs_of(entries) if name in {None, ref.name}]
    refs.sort(key=lambda ref: age[ref.text], reverse=True)
    return [_detailed(store, ref) if with_details else _plain(ref) for ref in refs]


def _plain(ref: Ref) -> Listed:
    return Listed(ref=ref.text, name=ref.name, version=ref.version, digest=ref.digest)


def _detailed(store: Store, ref: Ref) -> Listed:
    from slipway_bundle.stored import read_descriptor

    listed = _plain(ref)
    try:
        bundle = read_descriptor(store, ref.descriptor)
    except SlipwayError as error:
        return replace(listed, problem=error.message)
    return replace(listed, created=bundle.manifest.created, size_bytes=bundle.size_bytes())
