"""The bill of materials: valid by another's rules, the same bytes anywhere, and the packages of a real installation."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from bundle_fakes import Shelf
from msgspec.structs import replace
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipway_bundle.digest import parse_digest
from slipway_bundle.environment import load_environment
from slipway_bundle.errors import UsageError
from slipway_bundle.oci import Platform
from slipway_bundle.referrers import referrers
from slipway_bundle.requirements import parse_lock
from slipway_bundle.sbom import SBOM_TYPE, attach_sbom, choose_target, make_sbom, targets_of
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.targets import Target, packages_for, parse_target, this_target

ROOT = Path(__file__).resolve().parents[3]
AMD64 = Target(architecture="amd64", python="3.11")


@pytest.fixture(scope="module")
def bundle(shelf: Shelf) -> StoredBundle:
    return read_bundle(shelf.store, "tiny")


def decoded(shelf: Shelf, bundle: StoredBundle, target: Target = AMD64, **environ: str) -> Any:
    return json.loads(make_sbom(shelf.store, bundle, target, environ=environ))


def of_type(document: Any, kind: str) -> list[Any]:
    return [component for component in document["components"] if component["type"] == kind]


def test_the_validator_of_cyclonedx_accepts_it(shelf: Shelf, bundle: StoredBundle) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    document = make_sbom(shelf.store, bundle, AMD64, environ={"SOURCE_DATE_EPOCH": "1"}).decode()

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None


def test_it_has_the_packages_of_the_lock_with_their_hashes(shelf: Shelf, bundle: StoredBundle) -> None:
    numpy, member = of_type(decoded(shelf, bundle), "library")

    version = importlib.metadata.version("numpy")
    assert (numpy["purl"], numpy["version"]) == (f"pkg:pypi/numpy@{version}", version)
    assert numpy["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]
    assert member["name"] == "tiny-service"
    assert "purl" not in member


def test_it_has_the_models_with_the_digests_of_their_weights(shelf: Shelf, bundle: StoredBundle) -> None:
    (model,) = of_type(decoded(shelf, bundle), "machine-learning-model")

    (file,) = bundle.manifest.models[0].files
    assert model["hashes"] == [{"alg": "SHA-256", "content": file.sha256}]
    assert [each["name"] for each in model["components"]] == ["tiny.ubj"]


def test_it_says_who_needs_what(shelf: Shelf, bundle: StoredBundle) -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in decoded(shelf, bundle)["dependencies"]}

    numpy = f"pkg:pypi/numpy@{importlib.metadata.version('numpy')}"
    assert needs["bundle:tiny"] == ["member:tiny-service", "model:tiny"]
    assert needs["member:tiny-service"] == [numpy]


def test_its_time_is_that_of_source_date_epoch_or_none(shelf: Shelf, bundle: StoredBundle) -> None:
    assert "timestamp" not in decoded(shelf, bundle)["metadata"]
    assert decoded(shelf, bundle, SOURCE_DATE_EPOCH="86400")["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"


def test_its_serial_number_is_that_of_the_content_and_the_target(shelf: Shelf, bundle: StoredBundle) -> None:
    arm64 = parse_target("linux/arm64", python="3.11")

    first, again, other = (decoded(shelf, bundle, target)["serialNumber"] for target in (AMD64, AMD64, arm64))

    assert first == again != other
    assert first.startswith("urn:uuid:")


MAKE = """\
import hashlib, sys
from pathlib import Path
from slipway_bundle import Store, read_bundle
from slipway_bundle.sbom import make_sbom
from slipway_bundle.targets import parse_target
store = Store.open(Path(sys.argv[1]))
made = make_sbom(store, read_bundle(store, "tiny"), parse_target("linux/amd64", python="3.11"), environ={})
print(hashlib.sha256(made).hexdigest())
"""


def test_it_is_the_same_in_another_process_language_and_time_zone(shelf: Shelf, bundle: StoredBundle) -> None:
    import hashlib

    others = {"PYTHONHASHSEED": "7", "TZ": "Pacific/Auckland", "LANG": "tr_TR.UTF-8"}
    said = subprocess.run(
        [sys.executable, "-c", MAKE, str(shelf.store.root)],
        env=os.environ | others, capture_output=True, text=True, check=True, timeout=60, cwd="/",
    ).stdout.strip()  # fmt: skip

    assert said == hashlib.sha256(make_sbom(shelf.store, bundle, AMD64, environ={})).hexdigest()


def test_it_is_kept_beside_the_bundle(shelf: Shelf, bundle: StoredBundle) -> None:
    document = make_sbom(shelf.store, bundle, AMD64, environ={})

    first, again = attach_sbom(shelf.store, bundle, document), attach_sbom(shelf.store, bundle, document)

    assert first == again
    (found,) = referrers(shelf.store, parse_digest(bundle.digest), artifact_type=SBOM_TYPE)
    assert found == first


def test_markers_decide_for_the_target_and_not_for_this_machine() -> None:
    blocks = "".join(
        f"{name}==1.0 ; {marker} \\\n    --hash=sha256:{'0' * 64}\n"
        for name, marker in {
            "on-arm": "platform_machine == 'aarch64'",
            "on-intel": "platform_machine == 'x86_64'",
            "on-windows": "sys_platform == 'win32'",
            "old-python": "python_full_version < '3.12'",
            "new-python": "python_version >= '3.12'",
            "patched": "python_full_version >= '3.11.4'",
            "on-pypy": "implementation_name == 'pypy'",
        }.items()
    )
    lock = parse_lock(blocks, where="lock")

    def names(platform: str, python: str) -> list[str]:
        return [block.name for block in packages_for(lock, parse_target(platform, python=python))]

    assert names("linux/amd64", "3.11") == ["on-intel", "old-python"]
    assert names("linux/arm64", "3.11.9") == ["on-arm", "old-python", "patched"]
    assert names("linux/arm64", "3.13") == ["on-arm", "new-python", "patched"]


@pytest.mark.parametrize(("platform", "python"), [("windows/amd64", "3.11"), ("linux/amd64", "2.7"), ("linux", "3.11")])
def test_what_is_no_target_is_refused(platform: str, python: str) -> None:
    with pytest.raises(UsageError):
        parse_target(platform, python=python)


def test_a_target_is_that_of_the_bundle_unless_it_is_said(bundle: StoredBundle) -> None:
    assert choose_target(bundle, None, None) == this_target()
    assert choose_target(bundle, "linux/arm64", "3.12") == Target(architecture="arm64", python="3.12")


@pytest.fixture(scope="module")
def imaged(bundle: StoredBundle) -> StoredBundle:
    """The bundle with two images, each on a base of its own."""
    (model,) = bundle.children["model"]
    images, children = [], []
    for architecture, python in (("amd64", "3.11"), ("arm64", "3.12")):
        base = {"org.opencontainers.image.base.digest": "sha256:" + python[-1] * 64}
        images.append(replace(model, annotations={"io.slipway.python": python, **base}))
        platform = Platform(architecture=architecture, os="linux")
        children.append(replace(bundle.descriptor, platform=platform, annotations={"io.slipway.role": "image"}))
    index = replace(bundle.index, manifests=(*children, *bundle.index.manifests))
    return replace(bundle, index=index, children={**bundle.children, "image": tuple(images)})


def test_the_base_of_the_image_is_a_component(shelf: Shelf, bundle: StoredBundle, imaged: StoredBundle) -> None:
    arm64 = parse_target("linux/arm64", python="3.12")

    (base,) = of_type(decoded(shelf, imaged, arm64), "container")

    assert base["hashes"] == [{"alg": "SHA-256", "content": "2" * 64}]
    assert of_type(decoded(shelf, bundle, arm64), "container") == []


def test_the_targets_are_those_of_the_images(imaged: StoredBundle) -> None:
    """With two images, which one is meant must be said."""
    assert [(each.text, each.python) for each in targets_of(imaged)] == [
        ("linux/amd64", "3.11"),
        ("linux/arm64", "3.12"),
    ]
    assert choose_target(imaged, "linux/arm64", None).python == "3.12"
    with pytest.raises(UsageError, match=r"linux/amd64 and linux/arm64"):
        choose_target(imaged, None, None)


def overridden() -> set[str]:
    """What the workspace takes out, whoever asks for it (`[tool.uv] override-dependencies` with a marker of never)."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    given = [Requirement(text) for text in settings["override-dependencies"]]
    return {canonicalize_name(each.name) for each in given if each.marker and not each.marker.evaluate()}


def installed_for(roots: set[str]) -> set[str]:
    """What `roots` need here, by the metadata of the installed packages: no lock is asked.

    Extras are followed as an installer does; the members of this workspace are editable installations.
    """
    taken_out = overridden()
    found: set[str] = set()
    waiting = [Requirement(root) for root in sorted(roots)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if (key := (name, frozenset(asked.extras))) in seen:
            continue
        seen.add(key)
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            extras = {"", *asked.extras}
            if canonicalize_name(needed.name) in taken_out:
                continue
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


@pytest.mark.parametrize("service", ["churn", "documents"])
def test_the_packages_are_those_that_the_service_needs(service: str) -> None:
    """The metadata in this environment, installed from the same lock, are the witness.

    The bundle's lock has a few packages more, and an installation of it installs them: a lock does not say which extra
    of a package asked for another, so what an extra of `uvicorn` needs for one member is there for all.
    """
    environment = load_environment(ROOT / "services" / service)
    packages = packages_for(parse_lock(environment.lock, where="lock"), this_target())

    names = {package.name for package in packages}

    needed = installed_for({f"{service}-service"}) - {member.name for member in environment.members}
    assert names >= needed
    assert len(names - needed) <= 5, names - needed
    assert {package.name: package.version for package in packages} == {
        name: importlib.metadata.version(name) for name in names
    }


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_the_packages_are_those_of_a_real_installation(tmp_path: Path) -> None:
    """pip installs churn's lock into an empty folder; what lies there is what the document says, and nothing else."""
    environment = load_environment(ROOT / "services" / "churn")
    lock = tmp_path / "environment.lock"
    lock.write_text(environment.lock)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes"]

    subprocess.run([*pip, "-r", lock, "--target", tmp_path / "site"], check=True, timeout=500)

    found = importlib.metadata.distributions(path=[str(tmp_path / "site")])
    packages = packages_for(parse_lock(environment.lock, where="lock"), this_target())
    assert {(canonicalize_name(each.name), each.version) for each in found} == {
        (package.name, package.version) for package in packages
    }
