"""What the tests of trust share: signed bundles, keys, and a policy that asks for them."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from bundle_fakes import Shelf

from slipway_bundle.policy import Policy, load_policy
from slipway_bundle.store import Store
from slipway_bundle.trust.keys import Algorithm, Signer, load_signer, make_key

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Keys:
    """Pairs of keys by name, in a folder; made when they are asked for first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, algorithm: Algorithm = "ecdsa-p256") -> Path:
        """The private key's file; the public one is beside it, with the ending `.pub`."""
        private = self.folder / f"{name}.key"
        if not private.exists():
            secret, public = make_key(algorithm)
            private.write_bytes(secret)
            (self.folder / f"{name}.pub").write_bytes(public)
        return private

    def signer(self, name: str, algorithm: Algorithm = "ecdsa-p256") -> Signer:
        """Who signs as `name`."""
        return load_signer(f"file:{self.make(name, algorithm)}", environ={})

    def policy(self, text: str, *names: str) -> Policy:
        """A policy of these rules, whose `[keys]` are `names`."""
        for name in names:
            self.make(name)
        tables = "".join(f'[keys.{name}]\nfile = "{name}.pub"\n' for name in names)
        path = self.folder / "policy.toml"
        path.write_text(tables + text)
        return load_policy(path)


def copy_of(shelf: Shelf, folder: Path) -> Store:
    """A store with the shelf's bundles, that a test may change."""
    shutil.copytree(shelf.store.root, folder, copy_function=shutil.copyfile)
    return Store.open(folder)
