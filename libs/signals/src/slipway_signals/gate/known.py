"""What the gate knows about a bundle before it asks any server: who it is, what it promises, what it must answer.

It opens no weights and sends no load. The invariant: what comes out was read by digest; from a registry only documents
come, never a layer, so a gate's Job needs megabytes where the model has gigabytes.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from slipway_bundle.compatibility import Contract, contract_of
from slipway_bundle.errors import UsageError
from slipway_bundle.golden import Golden, decode_golden
from slipway_bundle.objectives import ATTACHMENT
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_descriptor

__all__ = ["KnownBundle", "fetch_known", "known_of"]


class KnownBundle(Struct, frozen=True, kw_only=True):
    """A bundle as a gate sees it."""

    digest: str
    """Of its index: what its answers must say they are."""

    contract: Contract
    """What its callers rely on."""

    golden: tuple[Golden, ...]
    slo: bytes | None
    """Its `slo.yaml`, as it is."""


def known_of(store: Store, bundle: StoredBundle, where: str) -> KnownBundle:
    """What is known about a stored bundle; `where` is its name, for messages.

    Raises:
        IntegrityError: An attachment is missing or damaged.
        GoldenError: A golden example is none.
    """
    return KnownBundle(
        digest=bundle.digest,
        contract=contract_of(store, bundle),
        golden=decode_golden(bundle.attachment(store, "golden"), where=f"the golden examples of {where}"),
        slo=None if bundle.manifest.attachment(ATTACHMENT) is None else bundle.attachment(store, ATTACHMENT),
    )


def fetch_known(source: str, folder: Path, *, environ: Mapping[str, str], is_insecure: bool = False) -> KnownBundle:
    """What is known about a bundle of a registry; its documents are kept in `folder`.

    Args:
        source: `HOST/REPOSITORY@sha256:…`, or `oci:FOLDER@sha256:…`: by digest, as it was deployed.
        folder: Of a store of its own; made when it is not there.
        environ: See `registry.open_registry`.
        is_insecure: Allow plain HTTP beyond this machine.

    Raises:
        UsageError: The reference is wrong, names no digest, or means nothing there.
        IntegrityError: Something is not what its digest says, or is no bundle.
        HostError: Registry, network or disk.
    """
    from slipway_bundle.registry import parse_remote
    from slipway_bundle.registry.pulling import pull_documents

    if parse_remote(source).digest is None:
        raise UsageError(
            f"{source!r} names no digest, expected one: a tag may mean another bundle than the one that runs",
            hint="write HOST/REPOSITORY@sha256:…, as `slipway bundle push` printed it",
            ref=source,
        )
    store = Store.open(folder)
    with store.lease():
        entry = pull_documents(source, store, environ=environ, with_referrers=False, is_insecure=is_insecure)
        return known_of(store, read_descriptor(store, entry), source)
