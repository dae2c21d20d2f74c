"""The platform image in a real container: `slipway` as nobody, on a read-only root, with all that its Jobs need."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from image_base import debian_base
from platform_image import build

from slipway_bundle.image.programs import ProgramsImage

pytestmark = [pytest.mark.e2e, pytest.mark.needs("umoci", "runc", "mmdebstrap"), pytest.mark.timeout(400)]

WHEELS = Path(__file__).parents[1] / ".tools" / "wheels"
CANDIDATE = ("--candidate", "http://127.0.0.1:1", "--candidate-bundle", f"localhost:1/churn@sha256:{'a' * 64}")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ProgramsImage]:
    """Layers that umoci 0.4.7 reads; it does not know zstd, the default."""
    out = tmp_path_factory.mktemp("platform") / "layout"
    return out, build(out, WHEELS, debian_base(), ("linux/amd64",), "gzip")


@pytest.fixture(scope="module")
def unpacked(image: tuple[Path, ProgramsImage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI runtime bundle."""
    layout, made = image
    folder = tmp_path_factory.mktemp("run") / "bundle"
    document = json.loads((layout / "index.json").read_text())
    (entry,) = document["manifests"]
    child = json.loads((layout / "blobs/sha256" / entry["digest"].partition(":")[2]).read_text())["manifests"][0]
    document["manifests"] = [{**child, "annotations": {"org.opencontainers.image.ref.name": "amd64"}}]
    (layout / "index.json").write_text(json.dumps(document))  # umoci takes the first image, and no index of them
    command = ["umoci", "unpack", "--image", f"{layout}:amd64", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert made.images[0].digest == child["digest"]
    return folder


def run(bundle: Path, *arguments: str, program: str | None = None) -> "subprocess.CompletedProcess[str]":
    """A container to its end: the image's own entry point, no network but loopback, one folder to write in."""
    spec = json.loads((bundle / "config.json").read_text())
    entry = spec["process"]["args"][:1] if program is None else [program]
    assert spec["process"]["user"] == {"uid": 65532, "gid": 65532}
    spec["process"]["terminal"] = False
    spec["process"]["args"] = [*entry, *arguments]
    spec["root"]["readonly"] = True
    scratch = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]}  # noqa: S108
    spec["mounts"] = [one for one in spec["mounts"] if one["destination"] != scratch["destination"]] + [scratch]
    again = bundle / "config.json"
    kept = again.read_text()
    again.write_text(json.dumps(spec))
    name = f"slipway-platform-{os.getpid()}-{time.monotonic_ns()}"
    try:
        return subprocess.run(
            ["runc", "run", "--bundle", str(bundle), name],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    finally:
        again.write_text(kept)
        subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)


def test_it_begins_with_slipway(unpacked: Path) -> None:
    said = run(unpacked, "--version")

    assert (said.returncode, said.stdout) == (0, "slipway 0.1.0\n"), said.stderr


def test_a_job_writes_in_its_own_folder_and_says_what_is_missing(unpacked: Path) -> None:
    """Documents are to be read from a registry that is not there: exit status 3, and not a traceback."""
    said = run(unpacked, "gate", "smoke", *CANDIDATE, "--json")

    error = json.loads(said.stdout)["error"]
    assert said.returncode == 3, said.stderr
    assert error["exit_status"] == 3
    assert "localhost:1" in error["message"]


def test_the_load_process_of_a_stage_is_in_it(unpacked: Path) -> None:
    said = run(unpacked, "-m", "slipway_loadtests", "compare", "--plan", "/nowhere", program="/opt/venv/bin/python")

    assert said.returncode == 3
    assert json.loads(said.stderr.splitlines()[-1])["error"]["code"] == "file_unreadable"


def test_nothing_of_the_platform_programs_is_in_it(unpacked: Path) -> None:
    """Pulumi is for whoever deploys; the lab and the services are for nobody in a pod."""
    site = unpacked / "rootfs/opt/venv/lib/python3.11/site-packages"

    assert (site / "slipway_serve").is_dir()
    assert not [
        name for name in ("pulumi", "slipway_lab", "slipway_platform", "churn_service") if (site / name).exists()
    ]
    assert not list(site.rglob("*.pyc"))


def test_another_layout_gets_the_same_digest(image: tuple[Path, ProgramsImage], tmp_path: Path) -> None:
    again = build(tmp_path / "again", WHEELS, debian_base(), ("linux/amd64",), "gzip")

    assert again.digest == image[1].digest
