"""Push and pull of a large bundle: ours beside `skopeo copy`, in turns, in one table of one run.

    python benchmarks/registry.py [--size-mb 1024] [--rounds 3] [--folder DIR]

Each round begins with an empty registry (Debian's docker-registry 2.8.2 in a process of its own, on this disk) for each
program, a warm page cache of what is read, and no dirty pages. What is compared: `skopeo copy --all --preserve-digests`
between the same layout and the same registry, which hashes too and does not sync what it pulls; `slipway` syncs, as a
store must. The median counts. Then a code change is pushed over an unchanged model: what goes again is counted by a
proxy in front of the registry.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pack import run, write_random

from slipway_bundle.layers import LayerFile
from slipway_bundle.oci import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, ImageConfig, RootFs, make_index, make_manifest
from slipway_bundle.registry import copy, push
from slipway_bundle.store import Store

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "libs" / "bundle" / "tests")]
os.environ["PATH"] = f"{ROOT / '.tools/system/usr/bin'}{os.pathsep}{os.environ['PATH']}"

from registry_process import environ, proxied, running  # noqa: E402 - after the path is known


def measure(folder: Path, size_mb: int, rounds: int) -> None:
    """All rows, in turns."""
    store = Store.open(folder / "store")
    write_random(folder / "F", size_mb << 20)
    put(store, folder / "F", b"first", "model:1")
    source, target = f"oci:{store.root}:model:1", f"oci:{folder / 'to'}:model:1"
    environment = environ(folder)
    seconds: dict[str, list[float]] = {}
    for turn in range(rounds):
        for who in ("skopeo", "slipway")[:: -1 if turn % 2 else 1]:
            with running(folder / "registry") as registry:
                place = f"{registry.host}/model:1"
                if who == "skopeo":
                    went = timed(partial(skopeo, source, f"docker://{place}"))
                    came = timed(partial(skopeo, f"docker://{place}", target))
                else:
                    went = timed(partial(push, store, "model:1", place, environ=environment))
                    came = timed(partial(copy, place, target, environ=environment))
            seconds.setdefault(f"push {who}", []).append(went)
            seconds.setdefault(f"pull {who}", []).append(came)
            shutil.rmtree(folder / "to")
            shutil.rmtree(folder / "registry")
    for what in ("push", "pull"):
        theirs, ours = (statistics.median(seconds[f"{what} {who}"]) for who in ("skopeo", "slipway"))
        print(f"{what} of {size_mb} MiB: skopeo {theirs:.2f} s, slipway {ours:.2f} s, ratio {ours / theirs:.2f}")
        for who in ("skopeo", "slipway"):
            print(f"    {who}: {' '.join(f'{each:.2f}' for each in seconds[f'{what} {who}'])}")
    resend(folder, store)


def resend(folder: Path, store: Store) -> None:
    """What a code change sends."""
    put(store, folder / "F", b"second", "model:2")
    with running(folder / "registry") as registry, proxied(registry) as proxy:
        place = f"{proxy.host}/model"
        push(store, "model:1", f"{place}:1", environ=environ(folder))
        whole = proxy.sent_bytes()
        proxy.seen.clear()
        push(store, "model:2", f"{place}:2", environ=environ(folder))
        documents = sum(len(seen.body) for seen in proxy.seen)
        print(f"push of a code change: {documents} bytes sent, of {whole}")


def put(store: Store, model: Path, code: bytes, ref: str) -> None:
    """An image of a model layer and a code layer."""
    with store.lease():
        layers = tuple(
            store.put_layer([file]).descriptor
            for file in (LayerFile("models/m/model.bin", model), LayerFile("app/service.py", code))
        )
        rootfs = RootFs(type="layers", diff_ids=tuple(layer.digest for layer in layers))
        config = store.put_json(ImageConfig(architecture="amd64", os="linux", rootfs=rootfs), CONFIG_TYPE)
        manifest = store.put_json(make_manifest(config, layers), MANIFEST_TYPE)
        store.publish(ref, store.put_json(make_index((manifest,)), INDEX_TYPE))


def timed(work: Callable[[], object]) -> float:
    os.sync()
    started = time.monotonic()
    work()
    return time.monotonic() - started


def skopeo(source: str, destination: str) -> None:
    subprocess.run(
        [
            "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
            "--quiet", source, destination,
        ],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    run(measure, __doc__)
