"""Provenance: what a bundle was made from and by whom, in the words of SLSA."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_fakes import Shelf

from slipway_bundle.attestations import ENVELOPE_TYPE, STATEMENT_TYPE
from slipway_bundle.digest import digest_bytes, parse_digest
from slipway_bundle.manifest import Dataset, Lineage, Source
from slipway_bundle.oci import Descriptor, Platform
from slipway_bundle.provenance import attest, builder_from, make_provenance, read_provenances
from slipway_bundle.referrers import referrers
from slipway_bundle.sbom import SBOM_TYPE
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.trust.dsse import read_unverified
from slipway_bundle.trust.keys import Signer, load_signer, make_key

COMMIT = "5a" * 20
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_WORKFLOW_REF": "acme/models/.github/workflows/release.yml@refs/heads/main",
    "GITHUB_REPOSITORY": "acme/models",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_TOKEN": "ghs_hidden",
}


@pytest.fixture
def bundle(shelf: Shelf) -> StoredBundle:
    """With a commit, training data and an image, as a release has them."""
    read = read_bundle(shelf.store, "tiny")
    data = Dataset(uri="s3://data/train.parquet", digest="sha256:" + "7c" * 32)
    manifest = msgspec.structs.replace(
        read.manifest,
        source=Source(commit=COMMIT, url="https://git.example.com/acme/models.git"),
        lineage=Lineage(datasets=(data,)),
        created="2031-05-20T12:00:00Z",
    )
    annotations = {
        "org.opencontainers.image.base.digest": "sha256:" + "9b" * 32,
        "org.opencontainers.image.base.name": "registry.example.com/python:3.11",
        "io.slipway.python": "3.11",
    }
    (model,) = read.children["model"]
    image = msgspec.structs.replace(model, annotations=annotations)
    child = Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json",
        digest=parse_digest("sha256:" + "4d" * 32),
        size=1,
        annotations={"io.slipway.role": "image"},
        platform=Platform(architecture="arm64", os="linux"),
    )
    index = msgspec.structs.replace(read.index, manifests=(child, *read.index.manifests))
    children = {**read.children, "image": (image,)}
    return msgspec.structs.replace(read, manifest=manifest, index=index, children=children)


def statement(bundle: StoredBundle, **environ: str) -> Any:
    return json.loads(make_provenance(bundle, builder_from(environ), environ=environ))


def test_it_is_about_the_index_of_the_bundle(bundle: StoredBundle) -> None:
    made = statement(bundle)

    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    assert made["subject"] == [
        {"name": f"tiny:{bundle.manifest.version}", "digest": {"sha256": bundle.digest.removeprefix("sha256:")}}
    ]


def test_it_is_read_by_the_library_of_in_toto(bundle: StoredBundle) -> None:
    from google.protobuf.json_format import Parse
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor  # type: ignore[import-untyped]  # it has no types
    from in_toto_attestation.v1.statement import Statement  # type: ignore[import-untyped]  # it has no types
    from in_toto_attestation.v1.statement_pb2 import Statement as Wire  # type: ignore[import-untyped]  # it has no types

    read = Statement.copy_from_pb(Parse(make_provenance(bundle, builder_from({}), environ={}), Wire()))

    materials = statement(bundle)["predicate"]["buildDefinition"]["resolvedDependencies"]

    read.validate()  # it and the others raise
    assert len(materials) >= 3
    for material in materials:
        ResourceDescriptor(**{key: material[key] for key in ("name", "uri", "digest") if key in material}).validate()


def test_the_materials_are_commit_lock_weights_data_and_base(bundle: StoredBundle) -> None:
    definition = statement(bundle)["predicate"]["buildDefinition"]

    materials = {material["name"]: material for material in definition["resolvedDependencies"]}
    assert materials["source"]["uri"] == f"git+https://git.example.com/acme/models.git@{COMMIT}"
    assert materials["source"]["digest"] == {"gitCommit": COMMIT}
    lock = bundle.manifest.environment.lock.removeprefix("sha256:")
    assert materials["environment-lock"]["digest"] == {"sha256": lock}
    assert materials["models/tiny/tiny.ubj"]["digest"] == {"sha256": bundle.manifest.models[0].files[0].sha256}
    assert materials["training-data"]["digest"] == {"sha256": "7c" * 32}
    assert materials["base-image"]["uri"] == "registry.example.com/python:3.11"
    assert materials["base-image"]["digest"] == {"sha256": "9b" * 32}
    assert definition["externalParameters"]["platforms"] == ["linux/arm64"]


def test_the_builder_is_the_workflow_that_runs(bundle: StoredBundle) -> None:
    details = statement(bundle, **GITHUB)["predicate"]["runDetails"]

    assert details["builder"]["id"] == ("https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main")
    assert details["metadata"]["invocationId"] == "https://github.com/acme/models/actions/runs/42/attempts/2"
    assert details["metadata"]["finishedOn"] == "2031-05-20T12:00:00Z"


def test_no_secret_of_the_environment_is_in_it(bundle: StoredBundle) -> None:
    assert "ghs_hidden" not in json.dumps(statement(bundle, **GITHUB))


def test_the_builder_of_gitlab_is_its_configuration() -> None:
    gitlab = {
        "GITLAB_CI": "true",
        "CI_PROJECT_URL": "https://git.example.com/acme/models",
        "CI_COMMIT_REF_NAME": "main",
        "CI_JOB_URL": "https://git.example.com/acme/models/-/jobs/7",
    }

    found = builder_from(gitlab)

    assert found.builder == "https://git.example.com/acme/models//.gitlab-ci.yml@main"
    assert found.run == "https://git.example.com/acme/models/-/jobs/7"


def test_a_person_is_no_ci_system_and_a_given_builder_wins() -> None:
    assert builder_from({}).builder == "https://slipway.dev/builders/local"
    assert builder_from(GITHUB, builder="https://ci.example.com").builder == "https://ci.example.com"


def test_it_is_the_same_for_the_same_build(bundle: StoredBundle) -> None:
    first, again = (make_provenance(bundle, builder_from({}), environ={}) for _ in range(2))

    assert first == again


@pytest.fixture
def mine(store: Store, shelf: Shelf) -> Store:
    """A store of the test's own with the shelf's bundle."""
    shutil.copytree(shelf.store.root, store.root)
    return store


def signer_at(path: Path) -> Signer:
    private, _ = make_key("ecdsa-p256")
    path.write_bytes(private)
    return load_signer(str(path), environ={})


def test_attest_keeps_both_documents_beside_the_bundle(mine: Store) -> None:
    attested = attest(mine, "tiny", builder_from({}), environ={})

    found = {each.artifact_type: each.digest for each in referrers(mine, attested.digest)}
    (sbom,) = attested.sboms.values()
    assert found == {SBOM_TYPE: sbom, STATEMENT_TYPE: attested.provenance}


def test_attest_again_changes_nothing(mine: Store) -> None:
    first = attest(mine, "tiny", builder_from({}), environ={})
    entries = mine.entries()

    assert attest(mine, "tiny", builder_from({}), environ={}) == first
    assert mine.entries() == entries


def test_one_signature_covers_the_bill_of_materials(mine: Store, tmp_path: Path) -> None:
    signer = signer_at(tmp_path / "ci.pem")
    attested = attest(mine, "tiny", builder_from({}), environ={}, signer=signer)

    (envelope,) = referrers(mine, attested.digest, artifact_type=ENVELOPE_TYPE)
    signed = json.loads(read_unverified(_only_layer(mine, envelope)))
    (sbom,) = referrers(mine, attested.digest, artifact_type=SBOM_TYPE)
    (byproduct,) = signed["predicate"]["runDetails"]["byproducts"]
    assert byproduct["mediaType"] == SBOM_TYPE
    assert byproduct["digest"] == {"sha256": digest_bytes(_only_layer(mine, sbom)).removeprefix("sha256:")}
    assert referrers(mine, attested.digest, artifact_type=STATEMENT_TYPE) == ()


def test_with_keys_only_the_word_of_their_owners_counts(mine: Store, tmp_path: Path) -> None:
    ci, stranger = signer_at(tmp_path / "ci.pem"), signer_at(tmp_path / "stranger.pem")
    for builder, signer in (("https://ci", ci), ("https://evil", stranger), ("https://nobody", None)):
        attested = attest(mine, "tiny", builder_from({}, builder=builder), environ={}, signer=signer)

    everybody = read_provenances(mine, attested.digest)
    (believed,) = read_provenances(mine, attested.digest, keys=(ci.key,))

    assert sorted(each.builder_id for each in everybody) == ["https://ci", "https://evil", "https://nobody"]
    assert not any(each.is_signed for each in everybody)
    assert (believed.builder_id, believed.signer, believed.is_signed) == ("https://ci", "ci", True)


def test_what_was_said_is_read_back(mine: Store, bundle: StoredBundle) -> None:
    from slipway_bundle.attestations import attach_statement

    attach_statement(mine, bundle.descriptor, make_provenance(bundle, builder_from(GITHUB), environ={}))

    (read,) = read_provenances(mine, parse_digest(bundle.digest))

    assert read.source_uri == "https://git.example.com/acme/models.git"
    assert read.source_commit == COMMIT
    assert read.base_images == (parse_digest("sha256:" + "9b" * 32),)


def _only_layer(store: Store, referrer: Descriptor) -> bytes:
    from slipway_bundle.oci import ImageManifest

    (layer,) = store.read_json(referrer.digest, ImageManifest).layers
    return store.read(layer.digest)
