"""Opening what may be served: `policy.toml` is asked before anything of a bundle is opened.

It judges nothing itself: `slipway_bundle.trust` does. The invariant: there is no other way into a server, at its start
or by a swap, and what was judged is what is opened: from here on the bundle is named by its digest.
"""

from datetime import UTC, datetime
from pathlib import Path

from slipway_bundle import BundleView, Policy, Store, open_any
from slipway_bundle.trust.evaluation import refuse_folder, require_allowed

__all__ = ["open_allowed"]


def open_allowed(target: str, store: Store, policy: Policy) -> BundleView:
    """A view of `target`, as `open_any`, when `policy` allows it.

    Where the policy asks anything of bundles, code and weights are hashed first, at the speed of SHA-256.

    Raises:
        PolicyRefusedError: A rule refuses it.
        SlipwayError: As `open_any`.
    """
    if Path(target).is_dir():  # as in `open_any`, a folder comes before a bundle of the same name
        refuse_folder(Path(target), policy)
    elif policy.judges_bundles:
        ref = store.find(target)
        require_allowed(store, target, policy, now=datetime.now(UTC), with_blobs=True)
        return open_any(f"{ref.name}@{ref.digest}", store)
    return open_any(target, store)
