"""Provenance: who built a bundle, from which commit, lock, weights and base images, as a SLSA statement.

It observes no build: it writes down what the manifest says and who runs it, and a signature makes it somebody's word.
The invariants: every material has a digest, or it is named without one and nothing is claimed about its bytes; what
could be a secret (credentials in a URL, the environment) is in no statement; without a time from outside there is none.
Source: SLSA v1.0, "Provenance" (predicate `https://slsa.dev/provenance/v1`); `docs/scan.md` describes the build type.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from slipway_bundle.assembly import IMAGE, ROLE
from slipway_bundle.attestations import attach_statement, read_statements
from slipway_bundle.digest import Digest, digest_bytes, parse_digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.lineage import created_at
from slipway_bundle.oci import Descriptor
from slipway_bundle.sbom import BASE_DIGEST, BASE_NAME, SBOM_TYPE, attach_sbom, make_sbom, targets_of
from slipway_bundle.stored import StoredBundle, read_bundle

if TYPE_CHECKING:
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import Signer, TrustedKey

__all__ = [
    "BUILD_TYPE",
    "PREDICATE_TYPE",
    "Attestations",
    "Invocation",
    "Provenance",
    "attest",
    "builder_from",
    "make_provenance",
    "read_provenances",
]

PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "https://slipway.dev/build/bundle/v1"
"""What `externalParameters` mean."""

LOCAL_BUILDER: Final = "https://slipway.dev/builders/local"
"""A person's machine: SLSA build level 1 at most."""

NONE: Final[Mapping[str, bytes]] = MappingProxyType({})


class _Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is written to disk: camelCase, defaults left out, unknown fields accepted."""


class Material(_Wire, frozen=True, kw_only=True):
    """SLSA's ResourceDescriptor."""

    name: str | None = None
    uri: str | None = None
    digest: dict[str, str] = {}
    media_type: str | None = None
    annotations: dict[str, str] = {}


class _BuildDefinition(_Wire, frozen=True, kw_only=True):
    build_type: str
    external_parameters: dict[str, object]
    internal_parameters: dict[str, object] = {}
    resolved_dependencies: tuple[Material, ...] = ()


class _Builder(_Wire, frozen=True, kw_only=True):
    id: str
    version: dict[str, str] = {}


class _RunMetadata(_Wire, frozen=True, kw_only=True):
    invocation_id: str | None = None
    started_on: str | None = None
    finished_on: str | None = None


class _RunDetails(_Wire, frozen=True, kw_only=True):
    builder: _Builder
    metadata: _RunMetadata = _RunMetadata()
    byproducts: tuple[Material, ...] = ()


class _Predicate(_Wire, frozen=True, kw_only=True):
    build_definition: _BuildDefinition
    run_details: _RunDetails


class Invocation(Struct, frozen=True, kw_only=True):
    """Who builds, and in which run."""

    builder: str
    """A URI; the verifier decides what it is worth."""

    run: str | None = None
    """Identifies the run with its builder."""


class Attestations(Struct, frozen=True, kw_only=True):
    """The answer of `attest`."""

    ref: str
    digest: Digest
    builder: str
    is_signed: bool
    sboms: dict[str, Digest]
    """Platform -> digest of the referrer with its bill of materials."""

    provenance: Digest
    """Of the referrer with the statement."""


class Provenance(Struct, frozen=True, kw_only=True):
    """What a statement says about a build: the parts that rules ask for."""

    builder_id: str
    source_uri: str | None
    """The repository, as a URL without credentials."""

    source_commit: str | None
    base_images: tuple[Digest, ...]
    """What the runnable images were built on."""

    signer: str | None
    """The name of the key that signed it; None when nobody did, or no keys were given."""

    descriptor: Descriptor
    """Of the referrer."""

    @property
    def is_signed(self) -> bool:
        """Whether one of the keys that were asked for signed it."""
        return self.signer is not None


def builder_from(environ: Mapping[str, str], *, builder: str | None = None) -> Invocation:
    """Who builds here: what is given, else the CI system that `environ` describes, else this machine.

    GitHub Actions: the workflow's reference and the run. GitLab CI: the project's configuration and the job. These
    variables are a claim of whoever runs the command; what makes them worth something is the key that signs.
    """
    if environ.get("GITHUB_ACTIONS") == "true" and "GITHUB_WORKFLOW_REF" in environ:
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        run = f"{server}/{environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{environ.get('GITHUB_RUN_ID', '')}"
        attempt = environ.get("GITHUB_RUN_ATTEMPT", "1")
        found = Invocation(builder=f"{server}/{environ['GITHUB_WORKFLOW_REF']}", run=f"{run}/attempts/{attempt}")
    elif environ.get("GITLAB_CI") == "true" and "CI_PROJECT_URL" in environ:
        path = environ.get("CI_CONFIG_PATH", ".gitlab-ci.yml")
        found = Invocation(
            builder=f"{environ['CI_PROJECT_URL']}//{path}@{environ.get('CI_COMMIT_REF_NAME', '')}",
            run=environ.get("CI_JOB_URL"),
        )
    else:
        found = Invocation(builder=LOCAL_BUILDER)
    return found if builder is None else Invocation(builder=builder, run=found.run)


def attest(
    store: "Store",
    ref: str,
    invocation: Invocation,
    *,
    environ: Mapping[str, str],
    signer: "Signer | None" = None,
) -> Attestations:
    """Attaches to the bundle that `ref` means a bill of materials for each of its targets, and its provenance.

    Args:
        store: Where the bundle is.
        ref: Any form that means one bundle.
        invocation: Who builds.
        environ: As `make_sbom` and `make_provenance`.
        signer: Who signs the provenance, which has the digests of the bills of materials in it.

    Raises:
        UsageError: The reference is wrong, or means no bundle or several.
        IntegrityError: A document of the bundle is missing, damaged or breaks the format.
        HostError: A library is missing, the store cannot be written, or a key service does not answer.
    """
    bundle = read_bundle(store, ref)
    sboms = {target.text: make_sbom(store, bundle, target, environ=environ) for target in targets_of(bundle)}
    statement = make_provenance(bundle, invocation, environ=environ, sboms=sboms)
    return Attestations(
        ref=f"{bundle.manifest.name}:{bundle.manifest.version}",
        digest=parse_digest(bundle.digest),
        builder=invocation.builder,
        is_signed=signer is not None,
        sboms={target: attach_sbom(store, bundle, document).digest for target, document in sboms.items()},
        provenance=attach_statement(store, bundle.descriptor, statement, signer=signer).digest,
    )


def make_provenance(
    bundle: StoredBundle, invocation: Invocation, *, environ: Mapping[str, str], sboms: Mapping[str, bytes] = NONE
) -> bytes:
    """The SLSA statement about `bundle`: canonical JSON, the same for the same arguments.

    Args:
        bundle: Its documents.
        invocation: Who builds.
        environ: SOURCE_DATE_EPOCH is the time of the build; without it, the manifest's, which is the commit's.
        sboms: Platform -> the bill of materials that goes with it; their digests become by-products, so that one
            signature covers all.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is no count of seconds.
    """
    from slipway_bundle.trust.statements import make_statement

    manifest = bundle.manifest
    external: dict[str, object] = {
        "name": manifest.name,
        "version": manifest.version,
        "entry": manifest.service.entry,
        "models": {model.name: model.format for model in manifest.models},
    }
    if platforms := _platforms(bundle):
        external["platforms"] = platforms
    predicate = _Predicate(
        build_definition=_BuildDefinition(
            build_type=BUILD_TYPE,
            external_parameters=external,
            internal_parameters={"envelope": manifest.builder.envelope, "python": manifest.environment.python},
            resolved_dependencies=_materials(bundle),
        ),
        run_details=_RunDetails(
            builder=_Builder(id=invocation.builder, version={manifest.builder.name: manifest.builder.version}),
            metadata=_RunMetadata(
                invocation_id=invocation.run,
                finished_on=_time(bundle, environ),
            ),
            byproducts=tuple(
                Material(name=f"sbom {platform}", digest=_digest(digest_bytes(sbom)), media_type=SBOM_TYPE)
                for platform, sbom in sorted(sboms.items())
            ),
        ),
    )
    return make_statement(
        f"{manifest.name}:{manifest.version}",
        parse_digest(bundle.digest),
        predicate_type=PREDICATE_TYPE,
        predicate=predicate,
    )


def read_provenances(store: "Store", digest: Digest, *, keys: "Sequence[TrustedKey]" = ()) -> tuple[Provenance, ...]:
    """What is said about the build of the bundle whose index is `digest`.

    Args:
        store: Where the bundle is.
        digest: Of the index.
        keys: Whose word counts; none means everybody's, and then nothing is signed.

    Raises:
        BlobMissingError, BlobCorruptError, JsonError: A referrer is damaged.
    """
    from slipway_bundle.trust.statements import decode_statement

    read = []
    for found in read_statements(store, digest, PREDICATE_TYPE, keys=keys):
        try:
            _, predicate = decode_statement(found.statement, _Predicate, predicate_type=PREDICATE_TYPE, subject=digest)
        except IntegrityError:
            continue
        materials = predicate.build_definition.resolved_dependencies
        source = next((item for item in materials if "gitCommit" in item.digest), Material())
        bases = tuple(
            Digest(f"sha256:{item.digest['sha256']}")
            for item in materials
            if item.name == "base-image" and "sha256" in item.digest
        )
        read.append(
            Provenance(
                builder_id=predicate.run_details.builder.id,
                source_uri=(source.uri or "").removeprefix("git+").partition("@")[0] or None,
                source_commit=source.digest.get("gitCommit"),
                base_images=bases,
                signer=found.signer,
                descriptor=found.descriptor,
            )
        )
    return tuple(read)


def _materials(bundle: StoredBundle) -> tuple[Material, ...]:
    """Source, lock, weights, training data, base images: in this order, each once."""
    manifest = bundle.manifest
    found = []
    if manifest.source is not None:
        uri = f"git+{manifest.source.url}@{manifest.source.commit}" if manifest.source.url else None
        found.append(
            Material(
                name="source",
                uri=uri,
                digest={"gitCommit": manifest.source.commit},
                annotations={"dirty": "true"} if manifest.source.dirty else {},
            )
        )
    found.append(Material(name="environment-lock", digest=_digest(manifest.environment.lock)))
    found += [
        Material(name=f"models/{model.name}/{file.path}", digest=_digest(file.sha256))
        for model in manifest.models
        for file in model.files
    ]
    if manifest.lineage is not None:
        for data in (*manifest.lineage.datasets, *manifest.lineage.trained_from):
            found.append(Material(name="training-data", uri=data.uri, digest=_digest(data.digest)))
    bases = {
        image.annotations[BASE_DIGEST]: image.annotations.get(BASE_NAME)
        for image in bundle.children.get(IMAGE, ())
        if BASE_DIGEST in image.annotations
    }
    found += [Material(name="base-image", uri=name, digest=_digest(digest)) for digest, name in sorted(bases.items())]
    return tuple(found)


def _digest(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.rpartition(":")
    return {algorithm or "sha256": value}


def _platforms(bundle: StoredBundle) -> list[str]:
    return sorted(
        f"{child.platform.os}/{child.platform.architecture}"
        for child in bundle.index.manifests
        if child.platform is not None and child.annotations.get(ROLE) == IMAGE
    )


def _time(bundle: StoredBundle, environ: Mapping[str, str]) -> str | None:
    return created_at(Path(), environ, None) or bundle.manifest.created
