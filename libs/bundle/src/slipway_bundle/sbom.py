"""The software bill of materials: what is in a bundle, as a CycloneDX document.

It downloads and installs nothing: packages come from the bundle's lock, with markers evaluated for one target; models
come from the manifest, with the digests of their weights. The invariants: the document is a function of the bundle,
the target and SOURCE_DATE_EPOCH, in RFC 8785 bytes; it names exactly the packages that an installation of the lock on
that target holds.
Source: CycloneDX 1.6 (ECMA-424).
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from slipway_bundle.assembly import IMAGE, ROLE
from slipway_bundle.canonical import canonical_json
from slipway_bundle.errors import HostError, UsageError
from slipway_bundle.lineage import created_at
from slipway_bundle.manifest import ModelEntry, Package
from slipway_bundle.oci import Descriptor
from slipway_bundle.referrers import attach
from slipway_bundle.requirements import Locked, parse_lock
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle
from slipway_bundle.targets import Target, packages_for, parse_target, this_target

if TYPE_CHECKING:
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

__all__ = ["SBOM_TYPE", "TrustExtraError", "attach_sbom", "choose_target", "locked_packages", "make_sbom", "targets_of"]

SBOM_TYPE: Final = "application/vnd.cyclonedx+json"
"""Media type of the document, and artifact type of its referrer."""

PYTHON: Final = "io.slipway.python"
"""Annotation of an image: the version of its interpreter."""

BASE_NAME: Final = "org.opencontainers.image.base.name"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
"""Annotations of an image: what it was built on. Source: OCI image-spec v1.1.1, annotations.md."""

SERIALS: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://slipway.dev/sbom")
"""Namespace of the serial numbers: one for each content and target, so the same document has the same number."""


class TrustExtraError(HostError):
    """A library of the extra `trust` is not installed."""

    code = "trust_missing"


def locked_packages(store: Store, bundle: StoredBundle, target: Target) -> tuple[Locked, ...]:
    """What the bundle's lock installs on `target`: sorted blocks, workspace members not among them.

    Raises:
        LockError: The attachment is not a lock.
        BlobMissingError, BlobCorruptError: As `Store.read`.
    """
    text = bundle.attachment(store, "environment-lock").decode("utf-8", "replace")
    return packages_for(parse_lock(text, where="environment-lock"), target)


def targets_of(bundle: StoredBundle) -> tuple[Target, ...]:
    """What the bundle's images are for; without images, the running interpreter.

    Raises:
        UsageError: An image is for a platform or an interpreter that slipway does not know.
    """
    platforms = [child.platform for child in bundle.index.manifests if child.annotations.get(ROLE) == IMAGE]
    images = bundle.children.get(IMAGE, ())
    return tuple(
        parse_target(f"{platform.os}/{platform.architecture}", python=image.annotations.get(PYTHON, ""))
        for platform, image in zip(platforms, images, strict=True)
        if platform is not None
    ) or (this_target(),)


def choose_target(bundle: StoredBundle, platform: str | None, python: str | None) -> Target:
    """One target, by what is said about it; what is not said is that of the bundle's image, or of this interpreter.

    Raises:
        UsageError: A platform or a version that slipway does not know, or several images and no word about which.
    """
    known = targets_of(bundle)
    fitting = [target for target in known if platform in (None, target.text)]
    if len(fitting) > 1:
        raise UsageError(
            f"the bundle has images for {' and '.join(target.text for target in fitting)}: which one is meant",
            hint="say it with `--platform`",
        )
    found = fitting[0] if fitting else known[0]
    return parse_target(platform or found.text, python=python or found.python)


def make_sbom(store: Store, bundle: StoredBundle, target: Target, *, environ: Mapping[str, str]) -> bytes:
    """The bill of materials of `bundle` on `target`, as RFC 8785 bytes.

    Args:
        store: Where the bundle is.
        bundle: Its documents.
        target: Whose packages: markers are evaluated for it.
        environ: SOURCE_DATE_EPOCH is the document's time; without it the document has none.

    Raises:
        TrustExtraError: cyclonedx-python-lib is not installed.
        LockError: The bundle's lock cannot be read.
        ConfigError: SOURCE_DATE_EPOCH is no count of seconds.
        BlobMissingError, BlobCorruptError: As `Store.read`.
    """
    packages = locked_packages(store, bundle, target)
    time = created_at(Path(), environ, None)
    try:
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise TrustExtraError(
            f"a bill of materials needs cyclonedx-python-lib, which is not installed here: {error}",
            hint="install slipway-bundle[trust]",
        ) from error
    document = msgspec.json.decode(JsonV1Dot6(_bom(bundle, packages, target)).output_as_string())
    # The library writes the time of its call where none is given; a document that changes each second has no digest.
    document["metadata"].pop("timestamp", None)
    if time is not None:
        document["metadata"]["timestamp"] = time
    return canonical_json(document)


def attach_sbom(store: Store, bundle: StoredBundle, document: bytes) -> Descriptor:
    """Stores a bill of materials as a referrer of `bundle`; the same again changes nothing.

    Raises:
        HostError: Disk full, not allowed, busy.
    """
    return attach(store, bundle.descriptor, artifact_type=SBOM_TYPE, blobs=[(document, SBOM_TYPE)])


def _bom(bundle: StoredBundle, packages: tuple[Locked, ...], target: Target) -> "Bom":
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository

    manifest = bundle.manifest
    root = _root(bundle)
    members = {member.name: _member(member) for member in manifest.environment.members}
    libraries = {package.name: _library(package) for package in packages}
    models = [_model(model, manifest.version) for model in manifest.models]
    bases = _bases(bundle, target)
    builder = Component(
        type=ComponentType.APPLICATION, name=manifest.builder.name, version=manifest.builder.version, bom_ref="builder"
    )
    bom = Bom(
        serial_number=uuid.uuid5(SERIALS, " ".join((manifest.content_digest, target.text, target.python, *bases))),
        metadata=BomMetaData(component=root, tools=ToolRepository(components=[builder])),
        components=[*members.values(), *libraries.values(), *models, *bases.values()],
        properties=_properties(platform=target.text, python=target.python),
    )
    by_name = {**libraries, **members}
    bom.register_dependency(root, [*members.values(), *models, *bases.values()])
    asked: dict[str, list[Component]] = {}
    for package in packages:
        for parent in package.via:
            asked.setdefault(parent, []).append(libraries[package.name])
    for name, component in by_name.items():
        bom.register_dependency(component, asked.get(name, []))
    return bom


def _bases(bundle: StoredBundle, target: Target) -> dict[str, "Component"]:
    """Digest -> the image that the bundle's own is built on; what is in it is told by its own bill of materials."""
    from cyclonedx.model.component import Component, ComponentType

    children = [child.platform for child in bundle.index.manifests if child.annotations.get(ROLE) == IMAGE]
    return {
        digest: Component(
            type=ComponentType.CONTAINER,
            name=image.annotations.get(BASE_NAME, "base-image"),
            version=digest,
            bom_ref=f"base-image:{digest}",
            hashes=[_sha256(digest)],
        )
        for platform, image in zip(children, bundle.children.get(IMAGE, ()), strict=True)
        if platform is not None
        and platform.architecture == target.architecture
        and (digest := image.annotations.get(BASE_DIGEST))
    }


def _root(bundle: StoredBundle) -> "Component":
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression

    manifest = bundle.manifest
    described = " AND ".join(manifest.licenses)
    return Component(
        type=ComponentType.APPLICATION,
        name=manifest.name,
        version=manifest.version,
        bom_ref=f"bundle:{manifest.name}",
        hashes=[_sha256(manifest.content_digest)],
        licenses=[LicenseExpression(described)] if described else [],
        properties=_properties(
            **{"content-digest": manifest.content_digest, "environment-lock": manifest.environment.lock}
        ),
    )


def _library(package: Locked) -> "Component":
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.serialization import PackageUrl

    # A lock has the hash of every file of a release, and one of them is installed. `hashes` would claim all at once.
    purl = f"pkg:pypi/{package.name}@{package.version}"
    only = package.hashes if len(package.hashes) == 1 else ()
    some = () if only else package.hashes
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=purl,
        purl=PackageUrl.deserialize(purl),
        hashes=[_sha256(digest) for digest in only],
        properties=[item for digest in some for item in _properties(**{"one-of": digest})],
    )


def _member(member: Package) -> "Component":
    """A package of the workspace: without a purl, because a package of that name in an index is another one."""
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.LIBRARY,
        name=member.name,
        version=member.version,
        bom_ref=f"member:{member.name}",
        properties=_properties(source="workspace"),
    )


def _model(model: ModelEntry, version: str) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    def weights(path: str, digest: str, size: int) -> Component:
        return Component(
            type=ComponentType.FILE,
            name=path,
            bom_ref=f"weights:{model.name}/{path}",
            hashes=[_sha256(digest)],
            properties=_properties(size=str(size)),
        )

    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model.name,
        version=version,
        bom_ref=f"model:{model.name}",
        hashes=[_sha256(model.files[0].sha256)] if len(model.files) == 1 else [],
        components=[weights(file.path, file.sha256, file.size) for file in model.files],
        properties=_properties(format=model.format, trust=model.trust),
    )


def _sha256(digest: str) -> "HashType":
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))


def _properties(**values: str) -> list["Property"]:
    from cyclonedx.model import Property

    return [Property(name=f"io.slipway.{name}", value=value) for name, value in sorted(values.items())]
