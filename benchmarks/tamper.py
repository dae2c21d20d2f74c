"""Tampered variants of a signed bundle: how many are refused? One that is not is an error.

    python benchmarks/tamper.py [--variants 1000] [--seed 7] [--service services/churn]

Builds and signs a bundle, and a second one for replays. Each variant is a copy of the store in which one thing was
changed, in one of two ways: as damage (bits of a blob, of the listing), or as an attacker who may write everything but
has no key: what was changed is stored under its new digest, everything that names it is written again, and the
signatures are attached anew. Each is judged as `slipway serve` does it. The untouched store is judged in between, and
must be allowed.
"""

import argparse
import collections
import os
import random
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from tampering import CHANGES, NOW, Original, other_version

from slipway_bundle.build import build
from slipway_bundle.errors import SlipwayError
from slipway_bundle.policy import load_policy
from slipway_bundle.store import Store
from slipway_bundle.trust.approvals import approve
from slipway_bundle.trust.evaluation import evaluate
from slipway_bundle.trust.keys import load_signer, make_key
from slipway_bundle.trust.signed import attached
from slipway_bundle.trust.signing import sign_release

RULES = """\
[keys.release]
file = "release.pub"
[keys.ann]
file = "ann.pub"
[signatures]
by = ["release"]
max_age = "90d"
models = true
[approvals]
by = ["ann"]
"""


def main() -> None:
    """Tamper, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--service", type=Path, default=Path(__file__).parents[1] / "services" / "churn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tamper-") as name:
        refused, accepted = run(Path(name), arguments.service, arguments.variants, random.Random(arguments.seed))  # noqa: S311
    for kind, count in sorted(refused.items()):
        print(f"{count:5} refused  {kind}")
    for kind in accepted:
        print(f"    1 ALLOWED  {kind}")
    print(f"{arguments.variants} variants: {sum(refused.values())} refused, {len(accepted)} allowed")
    sys.exit(1 if accepted else 0)


def run(
    folder: Path, service: Path, variants: int, draw: random.Random
) -> tuple["collections.Counter[str]", list[str]]:
    """How many variants of each kind were refused, and which were not."""
    original = prepare(folder, service)
    refused: collections.Counter[str] = collections.Counter()
    accepted = []
    changes = list(CHANGES)
    for number in range(variants):
        store = copy_of(original.store, folder / "copy")
        variant = changes[number % len(changes)](store, original, draw)
        if is_allowed(store, original, variant.days):
            accepted.append(variant.kind)
        else:
            refused[variant.kind] += 1
        shutil.rmtree(store.root)
        if number % 50 == 0 and not is_allowed(original.store, original, 0):
            raise SystemExit("the untouched bundle is refused: the figures mean nothing")
    return refused, accepted


def prepare(folder: Path, service: Path) -> Original:
    """A store with the signed and approved bundle, the other one's statements, and the keys."""
    signers = {}
    for name in ("release", "ann", "stranger"):
        secret, public = make_key("ecdsa-p256")
        (folder / f"{name}.key").write_bytes(secret)
        (folder / f"{name}.pub").write_bytes(public)
        signers[name] = load_signer(str(folder / f"{name}.key"), environ={})
    (folder / "policy.toml").write_text(RULES)
    store = Store.open(folder / "store")
    ref = build(service, store, environ={}).ref
    second = f"{ref.partition(':')[0]}:other"
    spare = copy_of(store, folder / "spare")
    spare.publish(second, other_version(spare, store.find(ref).digest, "other"))
    for place, name in ((store, ref), (spare, second)):
        sign_release(place, name, signers["release"], now=NOW)
        approve(place, name, signers["ann"], now=NOW)
    digest = store.find(ref).digest
    return Original(
        store=store,
        policy=load_policy(folder),
        ref=ref,
        digest=digest,
        bundles=tuple(item.data for item in attached(store, digest)),
        other=tuple(item.data for item in attached(spare, spare.find(second).digest)),
        **signers,
    )


def copy_of(store: Store, folder: Path) -> Store:
    """A copy whose blobs are links: a change replaces a blob, it never writes into one."""
    shutil.copytree(store.root, folder, copy_function=os.link, ignore=shutil.ignore_patterns("trees", "index.json"))
    shutil.copyfile(store.layout.index, folder / "index.json")
    (folder / "slipway" / "trees").mkdir()
    return Store.open(folder)


def is_allowed(store: Store, original: Original, days: float) -> bool:
    """The answer of `slipway serve`: an error is a no."""
    try:
        moment = NOW + timedelta(days=days)
        return evaluate(store, original.ref, original.policy, now=moment, with_blobs=True).is_allowed
    except SlipwayError:
        return False


if __name__ == "__main__":
    main()
