"""Adding images: what is in them, and what a bundle stays when it gets them."""

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
import zstandard
from bundle_fakes import edit
from image_fakes import NATIVE, Workshop, make_base

from slipway_bundle.build import build
from slipway_bundle.digest import Digest
from slipway_bundle.errors import ConfigError, UsageError
from slipway_bundle.image.errors import BaseError, ImagePlatformError
from slipway_bundle.image.settings import Image, Imaged
from slipway_bundle.oci import ImageConfig, ImageIndex, ImageManifest
from slipway_bundle.referrers import attach
from slipway_bundle.store_errors import ImageSignedError, RefConflictError
from slipway_bundle.stored import read_bundle
from slipway_bundle.view import open_any


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, bench: Workshop) -> tuple[Workshop, Imaged]:
    """Both platforms; read it, do not change it."""
    workshop = bench.copy(tmp_path_factory.mktemp("shared") / "workshop")
    return workshop, workshop.add(platforms=("linux/amd64", "linux/arm64"))


def members(workshop: Workshop, image: Image, role: str) -> dict[str, tarfile.TarInfo]:
    """Name -> member of the layers of a role."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in image.layers:
        if layer.role == role:
            data = workshop.store.blob(layer.digest).read_bytes()
            plain = (
                zstandard.ZstdDecompressor().stream_reader(data)
                if data[:4] == b"\x28\xb5\x2f\xfd"
                else io.BytesIO(data)
            )
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                found |= {member.name: member for member in archive}
    return found


def text_of(workshop: Workshop, image: Image, role: str, name: str) -> str:
    for layer in image.layers:
        if layer.role == role:
            data = workshop.store.blob(layer.digest).read_bytes()
            plain = zstandard.ZstdDecompressor().stream_reader(data)
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    if member.name == name and (file := archive.extractfile(member)):
                        return file.read().decode()
    raise AssertionError(name)


def config_of(workshop: Workshop, image: Image) -> ImageConfig:
    document = workshop.store.read_json(image.digest, ImageManifest)
    return workshop.store.read_json(Digest(document.config.digest), ImageConfig)


def test_a_bundle_keeps_its_content_and_its_other_children(shared: tuple[Workshop, Imaged], bench: Workshop) -> None:
    workshop, imaged = shared
    before = read_bundle(bench.store, bench.ref)
    bundle = read_bundle(workshop.store, workshop.ref)

    assert imaged.content_digest == before.manifest.content_digest == bundle.manifest.content_digest
    assert imaged.digest == bundle.digest != before.digest
    assert bundle.index.manifests[2:] == before.index.manifests


def test_whoever_chooses_by_platform_gets_the_image_and_not_the_modelcar(shared: tuple[Workshop, Imaged]) -> None:
    workshop, imaged = shared
    index = workshop.store.read_json(imaged.digest, ImageIndex)

    for image in imaged.images:
        first = next(
            child
            for child in index.manifests
            if child.platform is not None and f"{child.platform.os}/{child.platform.architecture}" == image.platform
        )
        assert first.digest == image.digest


def test_weights_and_code_are_the_blobs_of_the_bundle(shared: tuple[Workshop, Imaged]) -> None:
    workshop, imaged = shared
    bundle = read_bundle(workshop.store, workshop.ref)

    for image in imaged.images:
        digests = {role: [layer.digest for layer in image.layers if layer.role == role] for role in ("weights", "code")}
        assert digests["weights"] == [layer.digest for layer in bundle.children["model"][0].layers]
        assert digests["code"] == [bundle.manifest.service.layer]


def test_what_is_small_lies_above_what_is_big(shared: tuple[Workshop, Imaged]) -> None:
    _, imaged = shared

    roles = [layer.role for layer in imaged.images[0].layers]
    assert roles == ["base", "environment", "weights", "slipway", "code", "documents"]


def test_each_platform_has_its_own_wheels_whatever_builds_it(shared: tuple[Workshop, Imaged]) -> None:
    workshop, imaged = shared

    for image, tag in zip(imaged.images, NATIVE, strict=True):
        assert text_of(
            workshop, image, "environment", "opt/venv/lib/python3.11/site-packages/nativepack/_native.so"
        ).startswith(tag)
        assert {package.name for package in image.packages} == {"purepack", "nativepack"}


def test_the_environment_is_a_venv_of_the_bases_interpreter(shared: tuple[Workshop, Imaged]) -> None:
    workshop, imaged = shared
    found = members(workshop, imaged.images[0], "environment")

    assert found["opt/venv/bin/python"].linkname == "/usr/bin/python3.11"
    assert "home = /usr/bin\n" in text_of(workshop, imaged.images[0], "environment", "opt/venv/pyvenv.cfg")
    script = text_of(workshop, imaged.images[0], "environment", "opt/venv/bin/greet")
    assert script.startswith("#!/opt/venv/bin/python\n")
    record = text_of(
        workshop, imaged.images[0], "environment", "opt/venv/lib/python3.11/site-packages/purepack-1.0.dist-info/RECORD"
    )
    assert "../../../bin/greet,sha256=" in record
    assert not [name for name in found if name.endswith((".lock", ".pyc"))]


def test_members_of_a_layer_have_one_owner_and_no_time(shared: tuple[Workshop, Imaged]) -> None:
    workshop, imaged = shared

    for role in ("environment", "slipway", "code", "documents", "weights"):
        for member in members(workshop, imaged.images[0], role).values():
            assert (member.uid, member.gid, member.mtime, member.uname) == (65532, 65532, 0, "")
            assert member.mode in ({0o777} if member.issym() else {0o755, 0o644})


def test_an_image_starts_the_server_as_nobody(shared: tuple[Workshop, Imaged]) -> None:
    workshop, imaged = shared
    config = config_of(workshop, imaged.images[1])

    assert config.architecture == "arm64"
    assert config.config.user == "65532:65532"
    assert config.config.entrypoint == ("/opt/venv/bin/python", "-m", "slipway_serve", "/")
    assert config.config.env[0] == "PATH=/usr/bin"
    assert "SLIPWAY_HOST=0.0.0.0" in config.config.env
    assert config.config.labels["io.slipway.content-digest"] == imaged.content_digest
    assert config.config.labels["org.opencontainers.image.base.digest"] == imaged.images[1].base
    assert "maintainer" not in config.config.labels
    steps = [step for step in config.history if not step.empty_layer]
    assert len(steps) == len(config.rootfs.diff_ids) == len(imaged.images[1].layers)


def test_the_same_again_is_nothing_new(workshop: Workshop) -> None:
    first = workshop.add()
    again = workshop.add()

    assert first.is_new
    assert not again.is_new
    assert again.digest == first.digest
    assert not [layer for layer in again.images[0].layers if layer.is_new]


def test_building_a_bundle_again_finds_it_with_its_images(workshop: Workshop) -> None:
    """Else every rebuild after an image would make a version `…-2`."""
    imaged = workshop.add()

    again = build(workshop.folder, workshop.store, environ={})

    assert (again.ref, again.digest, again.is_new) == (imaged.ref, imaged.digest, False)


def test_another_base_replaces_the_images(workshop: Workshop) -> None:
    first = workshop.add()
    other = make_base(workshop.root / "other", names=("usr/local/bin/python3.11", "usr/bin/python3.9"))

    second = workshop.add(base=other)

    assert second.digest != first.digest
    index = workshop.store.read_json(second.digest, ImageIndex)
    roles = [child.annotations["io.slipway.role"] for child in index.manifests]
    assert roles == ["image", "manifest", "model", "modelcar", "modelcar"]
    assert workshop.store.gc().removed
    assert workshop.store.resolve(workshop.ref) == second.digest


def test_a_new_line_of_code_rewrites_the_code_and_the_documents_alone(workshop: Workshop) -> None:
    before = {layer.digest for layer in workshop.add().images[0].layers}
    edit(workshop.folder / "src/tiny_service/service.py", "A service for tests.", "A service for the tests.")
    built = build(workshop.folder, workshop.store, environ={})

    imaged = workshop.add(built.ref)

    fresh = {layer.role: layer.size for layer in imaged.images[0].layers if layer.digest not in before}
    assert sorted(fresh) == ["code", "documents"]
    assert sum(fresh.values()) < 64 * 1024


def test_a_signed_bundle_gets_no_images(workshop: Workshop) -> None:
    bundle = workshop.store.find(workshop.ref).descriptor
    attach(workshop.store, bundle, artifact_type="application/vnd.test", blobs=[(b"signed", "text/plain")])

    with pytest.raises(ImageSignedError, match="1 signatures or statements") as caught:
        workshop.add()

    assert "then sign" in str(caught.value.hint)
    assert workshop.store.resolve(workshop.ref) == bundle.digest


def test_a_name_never_moves_to_other_content(workshop: Workshop) -> None:
    edit(workshop.folder / "src/tiny_service/service.py", "A service for tests.", "Another service.")
    other = workshop.store.find(build(workshop.folder, workshop.store, environ={}).ref).descriptor

    with pytest.raises(RefConflictError):
        workshop.store.publish(workshop.ref, other, replaces_same_content=True)


def test_the_bases_name_is_in_the_runtime_table(workshop: Workshop) -> None:
    with (workshop.folder / "slipway.toml").open("a") as config:
        config.write(
            f'\n[runtime.image]\nbase = "{workshop.base}"\nplatforms = ["linux/arm64"]\ncompression = "none"\n'
        )
    built = build(workshop.folder, workshop.store, environ={})

    imaged = workshop.add(built.ref, base=None, platforms=None)

    assert built.content_digest == read_bundle(workshop.store, workshop.ref).manifest.content_digest
    assert [image.platform for image in imaged.images] == ["linux/arm64"]


def test_a_key_that_is_not_known_is_named(workshop: Workshop) -> None:
    with (workshop.folder / "slipway.toml").open("a") as config:
        config.write('\n[runtime.image]\nbas = "oci:base"\n')
    built = build(workshop.folder, workshop.store, environ={})

    with pytest.raises(ConfigError, match="unknown field `bas`") as caught:
        workshop.add(built.ref)

    assert "base, platforms, compression" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("chosen", "error", "said"),
    [
        ({"base": None}, BaseError, "no base image"),
        ({"base": "registry.example.com/python:3.11"}, BaseError, "named by a tag"),
        ({"platforms": ("windows/amd64",)}, UsageError, "windows/amd64"),
    ],
)
def test_a_wrong_choice_is_said_before_anything_is_made(
    shared: tuple[Workshop, Imaged], chosen: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        shared[0].add(None, **chosen)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["usr/bin/perl"], "has no Python"),
        (["usr/bin/python3.11", "usr/bin/python3.12"], "Python 3.11 and 3.12"),
        (["usr/bin/python3.11", "lib/ld-musl-x86_64.so.1"], "musl"),
    ],
)
def test_a_base_that_cannot_run_a_service_is_refused(workshop: Workshop, names: list[str], said: str) -> None:
    with pytest.raises(BaseError, match=said):
        workshop.add(base=make_base(workshop.root / "odd", names=names))


def test_a_base_without_the_library_that_wheels_expect_is_refused(workshop: Workshop) -> None:
    with pytest.raises(BaseError, match=r"libstdc\+\+\.so\.6"):
        workshop.add(base=make_base(workshop.root / "odd", libraries=()))


def test_a_base_of_another_platform_is_refused(workshop: Workshop) -> None:
    base = make_base(workshop.root / "odd", platforms=("arm64",))

    with pytest.raises((ImagePlatformError, UsageError), match="amd64"):
        workshop.add(base=base)


def test_layers_of_docker_get_their_oci_names_and_stay_the_same_bytes(workshop: Workshop) -> None:
    imaged = workshop.add(base=make_base(workshop.root / "docker", is_docker=True))

    document = workshop.store.read_json(imaged.images[0].digest, ImageManifest)
    assert document.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert document.layers[0].digest == imaged.images[0].layers[0].digest


def test_an_unpacked_image_is_a_bundle_to_serve(shared: tuple[Workshop, Imaged], tmp_path: Path) -> None:
    """The root of the running image, without a store: the same view, and nothing that was changed after the build."""
    workshop, imaged = shared
    for layer in imaged.images[0].layers:
        if layer.role in {"weights", "code", "documents"}:
            with tarfile.open(workshop.store.blob(layer.digest)) as archive:
                archive.extractall(tmp_path, filter="data")

    view = open_any(str(tmp_path), workshop.store)

    stored = open_any(workshop.ref, workshop.store)
    assert (view.content_digest, view.digest, view.version) == (stored.content_digest, None, stored.version)
    assert view.models["tiny"].file.read() == stored.models["tiny"].file.read()
    assert view.golden == stored.golden
    wheels = json.loads((tmp_path / "opt/slipway/environment.json").read_text())["wheels"]
    assert {wheel["name"] for wheel in wheels} == {"purepack", "nativepack"}
    code = tmp_path / "opt/app/src/tiny_service/service.py"
    code.chmod(0o644)
    edit(code, "tiny", "evil")
    with pytest.raises(Exception, match="is not what the manifest says"):
        open_any(str(tmp_path), workshop.store)
