"""Verifying: is this bundle, byte for byte, what it says, and does it still answer as promised?

It repairs nothing. The invariant: whatever a reader of the bundle may use is checked in the order of trust: first the
documents that name the others, then the blobs and what is inside them; code runs last, when all else holds.
Source: `docs/bundle-v1.md`, which has the same numbered list.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.assembly import IMAGE, ROLE, WEIGHT_TYPE
from slipway_bundle.build import CODE_PREFIX, MODELS_PREFIX
from slipway_bundle.canonical import decode_json
from slipway_bundle.description import ServiceDescription
from slipway_bundle.digest import Digest, parse_digest
from slipway_bundle.errors import HostError, ManifestError, SlipwayError
from slipway_bundle.extract import scan_layer
from slipway_bundle.golden import Mismatch, decode_golden
from slipway_bundle.image.checking import check_images
from slipway_bundle.oci import INDEX_TYPES, LAYER_TYPE, MANIFEST_TYPES, Descriptor, ImageIndex
from slipway_bundle.partial import absent_blobs, absent_roles
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.reference_profiles import ATTACHMENT as REFERENCES
from slipway_bundle.reference_profiles import decode_references
from slipway_bundle.replay import refuse_mismatches, replay_in_child
from slipway_bundle.requirements import check_environment
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_descriptor

if TYPE_CHECKING:
    from slipway_bundle.layers import Layer

__all__ = ["Status", "Step", "VerifyReport", "verify"]

TAR_TYPES = frozenset({LAYER_TYPE, WEIGHT_TYPE})

Status = Literal["ok", "failed", "warning", "skipped"]


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One numbered step of a verification."""

    number: int
    name: str
    status: Status
    detail: str
    """What was found, one line or more."""

    code: str | None = None
    """The `code` of the error, when it failed."""

    hint: str | None = None


class VerifyReport(Struct, frozen=True, kw_only=True):
    """The answer of `verify`."""

    ref: str
    digest: str
    content_digest: str | None
    """None when the manifest could not be read."""

    is_valid: bool
    """No step failed; a warning does not count."""

    steps: tuple[Step, ...]
    mismatches: tuple[Mismatch, ...] = ()
    """Golden examples that did not replay."""


class _Skipped(Exception):
    """A step that has nothing to look at, and says why: never the same as ok."""


class _Warning(Exception):
    """A step found something that a person should know, and that is no defect of the bundle."""


def verify(
    store: Store,
    ref: str,
    *,
    progress: Progress = QUIET,
    announce: Callable[[str, int], None] = lambda _step, _bytes: None,
    is_replaying: bool = True,
) -> VerifyReport:
    """Checks the bundle that `ref` means. A defect is a failed step of the report, not an exception.

    Args:
        store: Where it is.
        ref: Any form that means one bundle.
        progress: Told the bytes that are hashed.
        announce: Told when a step begins, and how many bytes its progress will add up to.
        is_replaying: Whether the golden examples are replayed, which runs the bundle's code.

    Raises:
        UsageError: The reference is wrong, or means no bundle or several.
        HostError: The store cannot be read, or a library is missing: no answer is not a no.
    """
    found = store.find(ref)
    run = _Run(store, found.descriptor, progress, announce)
    run.do("documents", run.documents)
    run.do("blobs", run.blobs)
    run.do("manifest", run.manifest)
    run.do("layers", run.layers)
    if absent_roles(found.descriptor):
        run.do("absent", run.absent)
    run.do("attachments", run.attachments)
    run.do("environment", run.environment)
    if is_replaying:
        run.do("golden", run.golden)
    return VerifyReport(
        ref=found.text,
        digest=found.digest,
        content_digest=run.bundle.manifest.content_digest if run.bundle is not None else None,
        is_valid=all(step.status != "failed" for step in run.steps),
        steps=tuple(run.steps),
        mismatches=tuple(run.mismatches),
    )


class _Run:
    """One verification; the methods are its steps, in order."""

    def __init__(
        self, store: Store, root: Descriptor, progress: Progress, announce: Callable[[str, int], None]
    ) -> None:
        self._store = store
        self._root = root
        self._progress = progress
        self._announce = announce
        self._reached: tuple[Descriptor, ...] = ()
        self._absent: frozenset[Digest] = frozenset()
        self._scanned: dict[str, Layer] = {}
        self.bundle: StoredBundle | None = None
        self.steps: list[Step] = []
        self.mismatches: list[Mismatch] = []

    def do(self, name: str, work: Callable[[], str]) -> None:
        """Runs a step, unless one before it failed: what is checked later rests on it."""
        number = len(self.steps) + 1
        status: Status = "ok"
        code = hint = None
        if any(step.status == "failed" for step in self.steps):
            status, detail = "skipped", "a step before this one failed"
        else:
            try:
                detail = work()
            except _Skipped as reason:
                status, detail = "skipped", str(reason)
            except _Warning as finding:
                status, detail = "warning", str(finding)
            except HostError:
                raise
            except SlipwayError as error:
                status, detail, code, hint = "failed", error.message, error.code, error.hint
        self.steps.append(Step(number=number, name=name, status=status, detail=detail, code=code, hint=hint))

    def documents(self) -> str:
        """(1) The index and everything it reaches is there, with its size; each document has its digest and parses."""
        self._announce("documents", 0)
        self._absent = absent_blobs(self._store, self._root)
        self._reached = tuple(self._store.walk(self._root, absent=self._absent))
        return f"{sum(_is_document(item) for item in self._reached)} documents"

    def blobs(self) -> str:
        """(2) Every byte of every other blob is hashed, once; a layer is unpacked in memory on the way."""
        leaves = [item for item in self._reached if not _is_document(item) and item.digest not in self._absent]
        total = sum(leaf.size for leaf in leaves)
        self._announce("blobs", total)
        own = self._own_layers()
        for leaf in leaves:
            if leaf.digest in own and leaf.media_type in TAR_TYPES:
                layer = replace(leaf, media_type=LAYER_TYPE)
                self._scanned[leaf.digest] = scan_layer(self._store, layer, progress=self._progress)
            else:
                self._store.verify_blob(leaf.digest, size=leaf.size, progress=self._progress)
        return f"{len(leaves)} blobs, {total} bytes"

    def _own_layers(self) -> set[str]:
        """Blobs whose inside is the bundle's business; a base and an environment are only hashed."""
        index = self._store.read_json(parse_digest(self._root.digest), ImageIndex)
        children = [child for child in index.manifests if child.annotations.get(ROLE) != IMAGE]
        return {leaf.digest for child in children for leaf in self._store.walk(child, absent=self._absent)}

    def manifest(self) -> str:
        """(3) `slipway.json` is canonical, of a known version, and its content digest follows from it."""
        self._announce("manifest", 0)
        self.bundle = read_descriptor(self._store, self._root)
        return f"version {self.bundle.manifest.schema_version}, content {self.bundle.manifest.content_digest}"

    def layers(self) -> str:
        """(4) The layers hold exactly the files of the manifest, and nothing that is unsafe to unpack."""
        bundle = self._read()
        manifest = bundle.manifest
        expected: dict[str, dict[str, tuple[int, str, int | str]]] = {layer: {} for layer in _tar_layers(bundle)}
        code = expected.setdefault(manifest.service.layer, {})
        for file in manifest.files:
            code[f"{CODE_PREFIX}/{file.path}"] = (file.size, f"sha256:{file.sha256}", int(file.mode, 8))
        for model in manifest.models:
            for weights in model.files:
                # By offset: models that share a file share its layer, and it lies under the name of the first.
                key = f"@{weights.offset}"
                expected[weights.layer][key] = (weights.size, f"sha256:{weights.sha256}", weights.path)
        self._announce("layers", 0)
        count = 0
        for digest, files in expected.items():
            scanned = self._scanned[digest]
            is_code = digest == manifest.service.layer
            got: dict[str, tuple[int, str, int | str]] = {
                (entry.path if is_code else f"@{entry.offset}"): (
                    entry.size,
                    entry.sha256,
                    entry.mode if is_code else entry.path.removeprefix(f"{MODELS_PREFIX}/").partition("/")[2],
                )
                for entry in scanned.entries
            }
            _require_equal(digest, got, files)
            count += len(got)
        images = 0 if self._absent else check_images(self._store, bundle)
        return f"{count} files" + (f"; {images} images" if images else "")

    def absent(self) -> str:
        """Only of a bundle that was pulled in part: what is not here is named, and is not verified."""
        roles = ", ".join(sorted(absent_roles(self._root)))
        raise _Skipped(
            f"{roles}: {len(self._absent)} blobs are not here (pulled without); a pull without roles brings them"
        )

    def attachments(self) -> str:
        """(5) The attachments are what their names promise."""
        self._announce("attachments", 0)
        bundle = self._read()
        examples = decode_golden(bundle.attachment(self._store, "golden"), where="attachment golden")
        if len(examples) != bundle.manifest.golden.examples:
            raise ManifestError(
                f"attachment 'golden' has {len(examples)} examples, expected {bundle.manifest.golden.examples}"
            )
        data = bundle.attachment(self._store, "schema")
        description = decode_json(data, ServiceDescription, what="attachment schema")
        schemas = {model.name: model.schema for model in bundle.manifest.models}
        if description.models != schemas:
            raise ManifestError("attachment 'schema' and the manifest describe different tensors, expected the same")
        if bundle.manifest.attachment(REFERENCES) is not None:
            profiled = decode_references(bundle.attachment(self._store, REFERENCES))
            if unknown := sorted(profiled.keys() - schemas.keys()):
                raise ManifestError(
                    f"attachment {REFERENCES!r} has the profile of {unknown[0]!r}, expected one of {sorted(schemas)}"
                )
        names = ", ".join(attachment.name for attachment in bundle.manifest.attachments)
        return f"{names}; {len(examples)} golden examples"

    def environment(self) -> str:
        """(6) What is installed here is what the lock says. A difference is this machine's, not the bundle's."""
        self._announce("environment", 0)
        lock = self._read().attachment(self._store, "environment-lock").decode("utf-8", "replace")
        differences = check_environment(lock)
        if differences:
            listed = "\n".join(map(str, differences))
            raise _Warning(f"{len(differences)} installed packages differ from the lock:\n{listed}")
        return f"{len(self._read().manifest.environment.packages)} packages in the lock, all as installed"

    def golden(self) -> str:
        """(7) In a clean process, the golden examples give their expected answers."""
        self._announce("golden", 0)
        bundle = self._read()
        self.mismatches = replay_in_child(self._store, self._root)
        refuse_mismatches(self.mismatches, bundle.manifest.golden.examples)
        return f"{bundle.manifest.golden.examples} golden examples replayed"

    def _read(self) -> StoredBundle:
        if self.bundle is None:
            raise ManifestError("this is a bug in slipway: a step ran before the manifest was read")
        return self.bundle


def _is_document(descriptor: Descriptor) -> bool:
    return descriptor.media_type in INDEX_TYPES or descriptor.media_type in MANIFEST_TYPES


def _tar_layers(bundle: StoredBundle) -> list[str]:
    """Digests of the weight layers, of every child: none may bring files that the manifest does not know."""
    named = [bundle.manifest.service.layer]
    for role in ("model", "modelcar"):
        named += [layer.digest for document in bundle.children.get(role, ()) for layer in document.layers]
    return list(dict.fromkeys(named))


def _require_equal(
    layer: str, got: dict[str, tuple[int, str, int | str]], expected: dict[str, tuple[int, str, int | str]]
) -> None:
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise ManifestError(
                f"layer {layer} does not match the manifest at {name!r}: "
                f"got {got.get(name, 'no file')}, expected {expected.get(name, 'no file')}",
                hint="the bundle was put together by something else than `slipway bundle build`",
                layer=layer,
            )
