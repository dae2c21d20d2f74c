"""A base image with Debian's Python, made by mmdebstrap once and kept in `.tools/`: what a runtime really runs on.

python libs/bundle/tests/image_base.py      prints `oci:FOLDER:debian`
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from slipway_bundle.digest import digest_bytes
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    REF_NAME,
    Descriptor,
    ImageConfig,
    Platform,
    RootFs,
    RunConfig,
    make_index,
    make_manifest,
)
from slipway_bundle.store import Store

PLACE = Path(__file__).parents[3] / ".tools" / "image-base"
SUITE, PACKAGES = "bookworm", ("python3.11", "libstdc++6", "ca-certificates")
LEFT_OUT = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/lib/python3.11/test", "/var")


def debian_base() -> str:
    """The source of the base; made when it is not there. No shell is in it.

    Raises:
        subprocess.CalledProcessError: Debian's mirror cannot be reached, or mmdebstrap failed.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    folder = PLACE / recipe
    if not (folder / "oci-layout").exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PLACE) as temporary:
            tar = Path(temporary) / "root.tar"
            _bootstrap(tar)
            _publish(Store.open(Path(temporary) / "layout"), tar.read_bytes())
            (Path(temporary) / "layout").rename(folder)
    return f"oci:{folder}:debian"


def _bootstrap(tar: Path) -> None:
    """`extract`: packages are unpacked, and none of their scripts run."""
    command = [
        *("mmdebstrap", "--quiet", "--mode=root" if os.geteuid() == 0 else "--mode=unshare", "--variant=extract"),
        f"--include={','.join(PACKAGES)}",
        *(f'--customize-hook=rm -rf "$1"{folder}' for folder in LEFT_OUT),
        *(f'--customize-hook=rm -f "$1"/{name}' for name in ("bin/sh", "bin/dash", "bin/bash")),
        *(SUITE, str(tar)),
    ]
    sources = [path.read_text() for path in sorted(Path("/etc/apt/sources.list.d").glob("debian.sources"))]
    given = {"input": sources[0]} if sources else {"stdin": subprocess.DEVNULL}
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    subprocess.run([*command, "-"] if sources else command, check=True, env=environ, text=True, timeout=300, **given)


def _publish(store: Store, tar: bytes) -> None:
    platform = Platform(architecture="amd64", os="linux")
    with store.lease():
        layer = store.put_bytes(gzip.compress(tar, 6, mtime=0), f"{LAYER_TYPE}+gzip")
        config = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            rootfs=RootFs(type="layers", diff_ids=(digest_bytes(tar),)),
            config=RunConfig(env=("PATH=/usr/bin:/bin",)),
        )
        manifest = store.put_json(make_manifest(store.put_json(config, CONFIG_TYPE), (layer,)), MANIFEST_TYPE)
        child = Descriptor(
            media_type=manifest.media_type, digest=manifest.digest, size=manifest.size, platform=platform
        )
        index = store.put_json(make_index((child,)), INDEX_TYPE)
        named = Descriptor(
            media_type=INDEX_TYPE, digest=index.digest, size=index.size, annotations={REF_NAME: "debian"}
        )
        store.layout.write_index([named])


def is_possible() -> bool:
    """Whether this machine has what it takes."""
    return shutil.which("mmdebstrap") is not None


if __name__ == "__main__":
    sys.stdout.write(f"{debian_base()}\n")
