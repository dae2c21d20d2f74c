"""The churn image in a real container: no engine, no network but loopback, a read-only root, nobody's user."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from image_base import debian_base
from packaging.utils import canonicalize_name

from slipway_bundle.build import build
from slipway_bundle.digest import Digest
from slipway_bundle.image.settings import Imaged
from slipway_bundle.oci import ImageConfig, ImageManifest
from slipway_bundle.store import Store

pytestmark = [pytest.mark.e2e, pytest.mark.needs("umoci", "runc", "mmdebstrap", "skopeo"), pytest.mark.timeout(300)]

SERVICES = Path(__file__).parents[3] / "services"

ASK = """\
import json, os, sys, time, urllib.request
deadline = time.monotonic() + 60
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:8000/readyz", timeout=2)
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit("never ready")
        time.sleep(0.05)
kind = {"content-type": "application/json"}
asked = urllib.request.Request("http://127.0.0.1:8000/predict", sys.argv[1].encode(), kind)
answer = json.loads(urllib.request.urlopen(asked, timeout=10).read())
try:
    open("/opt/app/evil", "w")
    wrote = True
except OSError as error:
    wrote = error.strerror
print(json.dumps({"answer": answer, "uid": os.getuid(), "wrote": wrote}))
"""


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Imaged]:
    root = tmp_path_factory.mktemp("churn")
    store = Store.open(root / "store")
    built = build(SERVICES / "churn", store)
    # Layers that umoci 0.4.7 reads; it does not know zstd, the default.
    command = [sys.executable, "-P", "-m", "slipway_cli", "bundle", "image", built.ref, "--json"]
    command += ["--base", debian_base(), "--platform", "linux/amd64", "--compression", "gzip"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, timeout=240, env={**os.environ, "SLIPWAY_HOME": str(root)}
    )
    return store, msgspec.json.decode(done.stdout, type=Imaged)


@pytest.fixture(scope="module")
def unpacked(churn: tuple[Store, Imaged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI runtime bundle: skopeo chooses the image by platform, umoci unpacks it."""
    store, imaged = churn
    folder = tmp_path_factory.mktemp("run")
    copied = folder / "image"
    command = ["skopeo", "copy", "-q", "--override-arch", "amd64", "--override-os", "linux", "--preserve-digests"]
    subprocess.run([*command, f"oci:{store.root}:{imaged.ref}", f"oci:{copied}:churn"], check=True)
    subprocess.run(
        ["umoci", "unpack", "--image", f"{copied}:churn", str(folder / "bundle")], check=True, capture_output=True
    )
    return folder / "bundle"


@contextmanager
def running(bundle: Path) -> Iterator[str]:
    """The container, with the process that the image says; its name."""
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"]["terminal"] = False
    spec["root"]["readonly"] = True
    assert spec["process"]["user"] == {"uid": 65532, "gid": 65532}
    assert spec["process"]["args"] == ["/opt/venv/bin/python", "-m", "slipway_serve", "/"]
    assert {"type": "network"} in spec["linux"]["namespaces"]
    (bundle / "config.json").write_text(json.dumps(spec))
    name = f"slipway-image-{os.getpid()}-{time.monotonic_ns()}"
    log = bundle / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["runc", "run", "--bundle", str(bundle), name], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        yield name
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        subprocess.run(["runc", "kill", name, "KILL"], check=False, capture_output=True)
        process.wait(30)
        subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)


def execute(name: str, *script: str) -> "subprocess.CompletedProcess[str]":
    """A script by the interpreter of the image, in the container, once there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = subprocess.run(["runc", "state", name], capture_output=True, text=True, check=False)
        if state.returncode == 0 and json.loads(state.stdout)["status"] == "running":
            break
    command = ["runc", "exec", name, "/opt/venv/bin/python", "-I", "-c", *script]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def ask(name: str, question: str) -> dict[str, object]:
    """What the server in the container answers to somebody in the same network."""
    done = execute(name, ASK, question)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_image_serves_a_prediction_from_a_read_only_root_as_nobody(unpacked: Path) -> None:
    line = (SERVICES / "churn/golden.jsonl").read_text().splitlines()[0]
    golden = json.loads(line)

    with running(unpacked) as name:
        found = ask(name, json.dumps(golden["input"]))

    answer = found["answer"]
    assert isinstance(answer, dict)
    assert answer["churn_probability"] == pytest.approx(golden["output"]["churn_probability"], abs=1e-5)
    assert (found["uid"], found["wrote"]) == (65532, "Read-only file system")


def test_there_is_no_shell_to_need(unpacked: Path) -> None:
    assert not [name for name in ("bin/sh", "bin/bash", "usr/bin/sh") if (unpacked / "rootfs" / name).exists()]


def test_what_is_installed_is_what_the_image_says(unpacked: Path, churn: tuple[Store, Imaged]) -> None:
    """The packages that the interpreter in the container finds, and the list in the image."""
    script = "import importlib.metadata as m; print('\\n'.join(d.name + '==' + d.version for d in m.distributions()))"
    with running(unpacked) as name:
        listed = execute(name, script).stdout

    found = {
        f"{canonicalize_name(name)}=={version}"
        for name, _, version in (line.partition("==") for line in listed.split())
    }
    wheels = {f"{package.name}=={package.version}" for package in churn[1].images[0].packages}
    assert {each for each in found if not each.startswith("slipway-")} == wheels
    assert len(found) > len(wheels)


def test_the_layers_unpack_to_what_the_configuration_says(churn: tuple[Store, Imaged], tmp_path: Path) -> None:
    """GNU tar reads every layer of ours, and finds nothing that is not a plain file, a folder or the one link."""
    store, imaged = churn
    document = store.read_json(imaged.images[0].digest, ImageManifest)
    config = store.read_json(Digest(document.config.digest), ImageConfig)
    assert msgspec.to_builtins(config)["config"]["User"] == "65532:65532"
    for layer in imaged.images[0].layers:
        if layer.role == "base":
            continue
        with tarfile.open(store.blob(layer.digest)) as archive:
            assert {member.name for member in archive if not (member.isreg() or member.isdir())} <= {
                "opt/venv/bin/python"
            }
        tar = shutil.which("tar")
        assert tar is not None
        subprocess.run([tar, "-tf", str(store.blob(layer.digest))], check=True, capture_output=True)
