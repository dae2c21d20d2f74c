"""Images of the churn service: how long, how big, and what a change costs, in one table of one run.

    python benchmarks/image.py [--base IMAGE] [--platform linux/amd64] [--rounds 3] [--wheels DIR]

Rows: from warm wheels (the wheel cache is full, no layer is known), again (nothing changed), and after one changed line
of code: seconds of `add_images`, and the bytes of the image's blobs that the row before did not have, which is what a
registry or a node would be sent. Then the size above the base, as stored, and the five largest wheels. The base is that
of the tests (Debian's Python by mmdebstrap) unless one is given. Medians of the rounds; every round has a new store.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from slipway_bundle.build import build
from slipway_bundle.image.adding import add_images
from slipway_bundle.image.settings import Imaged, ImageOptions
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle

ROOT = Path(__file__).parents[1]
LARGEST = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None, help="as of `slipway bundle image`")
    parser.add_argument("--platform", action="append", help="may be given again; linux/amd64 when it is not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wheels", type=Path, default=ROOT / ".tools" / "wheels")
    arguments = parser.parse_args()
    options = ImageOptions(
        wheels=arguments.wheels,
        base=arguments.base or _base(),
        platforms=tuple(arguments.platform or ("linux/amd64",)),
    )
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        _round(Path(name) / "warm", options)  # fills the wheel cache; not counted
        rounds = [_round(Path(name) / str(number), options) for number in range(arguments.rounds)]
    for row in rounds[0]:
        seconds = statistics.median(each[row][0] for each in rounds)
        sys.stdout.write(f"{row:<32} {seconds:6.2f} s   {rounds[-1][row][1] / 1e6:8.2f} MB new\n")
    for image in rounds[-1]["one line of code changed"][2].images:
        sys.stdout.write(f"{image.platform}: {image.above_base_bytes() / 1e6:.1f} MB above the base; ")
        sys.stdout.write(", ".join(f"{one.name} {one.size / 1e6:.1f} MB" for one in image.packages[:LARGEST]) + "\n")


def _base() -> str:
    sys.path.insert(0, str(ROOT / "libs/bundle/tests"))
    from image_base import debian_base

    return debian_base()


def _round(root: Path, options: ImageOptions) -> dict[str, tuple[float, int, Imaged]]:
    """Row -> seconds, new bytes, what was made."""
    service = _workspace(root)
    store = Store.open(root / "store")
    return dict(_rows(service, store, options))


def _rows(service: Path, store: Store, options: ImageOptions) -> Iterator[tuple[str, tuple[float, int, Imaged]]]:
    known: set[str] = set()
    for row in ("from warm wheels", "again", "one line of code changed"):
        if row == "one line of code changed":
            code = service / "src/churn_service/service.py"
            code.write_text(code.read_text() + "\n# one more line\n")
        built = build(service, store, environ={})
        started = time.perf_counter()
        made = add_images(store, built.ref, options, environ=os.environ)
        seconds = time.perf_counter() - started
        reached = {
            each.digest: each.size for image in made.images for each in store.walk(_child(store, made, image.digest))
        }
        yield row, (seconds, sum(size for digest, size in reached.items() if digest not in known), made)
        known |= reached.keys()


def _child(store: Store, made: Imaged, digest: str) -> Descriptor:
    return next(child for child in read_bundle(store, made.ref).index.manifests if child.digest == digest)


def _workspace(root: Path) -> Path:
    """A copy of the service that may be changed, in a workspace that names the same members."""
    for path in (ROOT / "pyproject.toml", ROOT / "requirements.lock", *ROOT.glob("libs/*/pyproject.toml")):
        target = root / "workspace" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    service = root / "workspace/services/churn"
    shutil.copytree(ROOT / "services/churn", service, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return service


if __name__ == "__main__":
    main()
