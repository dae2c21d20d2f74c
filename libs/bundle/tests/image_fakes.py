"""What the tests of images share: wheels and a base made by hand, and a bundle whose lock names the wheels."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from bundle_fakes import Trained, write_folder

from slipway_bundle.build import build
from slipway_bundle.digest import digest_bytes
from slipway_bundle.image.adding import add_images
from slipway_bundle.image.settings import Imaged, ImageOptions
from slipway_bundle.image.wheels import fetch_wheels
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    REF_NAME,
    Descriptor,
    History,
    ImageConfig,
    Platform,
    RootFs,
    RunConfig,
    make_index,
    make_manifest,
)
from slipway_bundle.requirements import parse_lock
from slipway_bundle.store import Store
from slipway_bundle.targets import packages_for, parse_target

PURE = "py3-none-any"
NATIVE = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_aarch64")


def make_wheel(folder: Path, name: str, tag: str, files: Mapping[str, bytes], *, extra: Mapping[str, str] = {}) -> Path:
    """A wheel of version 1.0 with these files; `extra` are files of its dist-info."""
    info = f"{name}-1.0.dist-info"
    pure = "true" if tag == PURE else "false"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {pure}\nTag: {tag}\n",
        **{f"{info}/{path}": text for path, text in extra.items()},
    }
    content = {**files, **{path: text.encode() for path, text in texts.items()}}
    record = "".join(f"{path},{_hash(data)},{len(data)}\n" for path, data in content.items()) + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in {**content, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return wheel


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_wheels(folder: Path) -> str:
    """An index on disk with a pure and a native package; gives the lock that names them."""
    folder.mkdir(parents=True)
    scripts = {"entry_points.txt": "[console_scripts]\ngreet = purepack:main\n"}
    wheels = {
        "purepack": [make_wheel(folder, "purepack", PURE, {"purepack/__init__.py": b"main = print\n"}, extra=scripts)],
        "nativepack": [
            make_wheel(folder, "nativepack", tag, {"nativepack/_native.so": tag.encode() * 50}) for tag in NATIVE
        ],
        "winonly": [make_wheel(folder, "winonly", PURE, {"winonly.py": b""})],
    }
    marker = {"winonly": " ; sys_platform == 'win32'"}
    return "".join(
        f"{name}==1.0{marker.get(name, '')} \\\n"
        + " \\\n".join(f"    --hash={digest_bytes(path.read_bytes())}" for path in paths)
        + "\n    # via tiny-service (pyproject.toml)\n"
        for name, paths in sorted(wheels.items())
    )


def make_base(
    folder: Path,
    *,
    platforms: Sequence[str] = ("amd64", "arm64"),
    names: Sequence[str] = ("usr/bin/python3.11",),
    is_docker: bool = False,
    libraries: Sequence[str] = ("usr/lib/libstdc++.so.6",),
) -> str:
    """A layout with an image that has files of these names; gives the source that means it."""
    store = Store.open(folder)
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip" if is_docker else f"{LAYER_TYPE}+gzip"
    with store.lease():
        manifests = []
        for architecture in platforms:
            tar = _tar(
                {
                    **dict.fromkeys(libraries, b""),
                    **dict.fromkeys(names, b"#!/bin/false\n"),
                    "etc/machine": architecture.encode(),
                }
            )
            layer = store.put_bytes(gzip.compress(tar, mtime=0), kind)
            config = ImageConfig(
                architecture=architecture,
                os="linux",
                rootfs=RootFs(type="layers", diff_ids=(digest_bytes(tar),)),
                config=RunConfig(user="0", env=("PATH=/usr/bin",), entrypoint=("/bin/sh",), labels={"maintainer": "x"}),
                history=(History(created_by="base"), History(created_by="ENV", empty_layer=True)),
            )
            stored = store.put_json(_as_docker(config) if is_docker else config, CONFIG_TYPE)
            document = make_manifest(stored, (layer,))
            manifest = store.put_json(document, MANIFEST_TYPE)
            platform = Platform(architecture=architecture, os="linux")
            manifests.append(
                Descriptor(
                    **{name: getattr(manifest, name) for name in ("media_type", "digest", "size")}, platform=platform
                )
            )
        index = store.put_json(make_index(tuple(manifests)), INDEX_TYPE)
        store.layout.write_index(
            [Descriptor(media_type=INDEX_TYPE, digest=index.digest, size=index.size, annotations={REF_NAME: "slim"})]
        )
    return f"oci:{folder}:slim"


def _as_docker(config: ImageConfig) -> dict[str, object]:
    """With what Docker writes and OCI does not know, and null for what is not there."""
    document: dict[str, Any] = msgspec.to_builtins(config)
    document["config"] |= {"Cmd": None, "Entrypoint": None, "Labels": None, "Volumes": None, "OnBuild": None}
    document["config"] |= {"ExposedPorts": None, "WorkingDir": "", "AttachStdin": False}
    return document | {"docker_version": "20.10.7", "container_config": {"Env": None}}


def _tar(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()


class Workshop:
    """A store with one bundle without images, an index of wheels and a base; nothing of it needs a network."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "tiny"
        self.base = f"oci:{root / 'base'}:slim"
        self.store = Store.open(root / "store")
        self.ref = self.store.refs()[0].text

    @classmethod
    def make(cls, root: Path, trained: Trained) -> "Workshop":
        """A new one in `root`, with the wheels in the cache."""
        lock = make_wheels(root / "index")
        folder = write_folder(root / "tiny", trained)
        (folder / "requirements.lock").write_text(lock)
        project = folder / "pyproject.toml"
        project.write_text(project.read_text().replace('"numpy>=1"', '"purepack", "nativepack", "winonly"'))
        make_base(root / "base")
        build(folder, Store.open(root / "store"), environ={})
        return cls(root)

    def fetch(self) -> None:
        """Puts the wheels of both platforms into the cache, by pip."""
        locked = parse_lock((self.folder / "requirements.lock").read_text(), where="lock")
        for platform in ("linux/amd64", "linux/arm64"):
            target = parse_target(platform, python="3.11")
            fetch_wheels(packages_for(locked, target), target, self.root / "wheels", environ=self.environ)

    def copy(self, root: Path) -> "Workshop":
        """One of the caller's own, as this one is now."""
        shutil.copytree(self.root, root)
        return Workshop(root)

    @property
    def environ(self) -> dict[str, str]:
        """pip finds the index on disk and nothing else."""
        return {
            **os.environ,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.root / "index"),
            "PIP_CONFIG_FILE": os.devnull,
        }

    def options(self, **chosen: object) -> ImageOptions:
        """The base and the cache of this workshop, one platform."""
        return ImageOptions(
            **{"wheels": self.root / "wheels", "base": self.base, "platforms": ("linux/amd64",), **chosen}  # type: ignore[arg-type]  # by name
        )

    def add(self, ref: str | None = None, **chosen: object) -> Imaged:
        """Images of the bundle."""
        return add_images(self.store, ref or self.ref, self.options(**chosen), environ=self.environ)
