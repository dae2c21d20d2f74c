"""References: the names of bundles, and which bundle of an index a reference means.

It reads no file. The invariant: a reference means one bundle or is an error that names the nearest ones; nothing is
guessed from a prefix, and `latest` is never implied. Names and versions are what both an OCI repository or tag and
an OCI layout allow, so every bundle can be pushed and be read by skopeo.
Source: OCI distribution-spec v1.1 ("Pulling manifests"); image-spec v1.1.1, annotations.md (`ref.name` grammar);
`docs/bundle-v1.md` (references).
"""

import difflib
import re
from collections.abc import Sequence

from msgspec import Struct

from slipway_bundle.digest import SHORT_HEX, Digest, is_digest, short
from slipway_bundle.oci import REF_NAME, Descriptor
from slipway_bundle.store_errors import RefAmbiguousError, RefInvalidError, RefNotFoundError

MAX_NAME = 255
MAX_VERSION = 128

NAME_PATTERN = r"^[a-z0-9]+(?:(?:[._-]|--)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._-]|--)[a-z0-9]+)*)*\Z"
VERSION_PATTERN = r"^(?!sha256-|alias-)[A-Za-z0-9]+(?:(?:[._-]|--)[A-Za-z0-9]+)*\Z"
"""`sha256-…` are the referrers' tags of old registries, `alias-…` mirrored aliases; `_…` is reserved as well."""

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)
_SHORT = re.compile(rf"^(?:sha256:)?([0-9a-f]{{{SHORT_HEX},64}})\Z")

_HINT_GRAMMAR = "write NAME:VERSION, NAME, NAME@sha256:… or a digest of at least 12 hex digits"
_HINT_LIST = "`slipway bundle list` prints what is there"


class Ref(Struct, frozen=True, kw_only=True):
    """A bundle under its name and version."""

    name: str
    version: str
    descriptor: Descriptor

    @property
    def digest(self) -> Digest:
        """The digest of the bundle's index."""
        return self.descriptor.digest

    @property
    def text(self) -> str:
        """`name:version`."""
        return f"{self.name}:{self.version}"


def split_ref(text: str) -> tuple[str, str]:
    """`text` as name and version.

    Raises:
        RefInvalidError: It is not `NAME:VERSION` by the grammar.
    """
    name, separator, version = text.rpartition(":")
    if not separator:
        raise RefInvalidError(
            f"reference {text!r} has no version, expected NAME:VERSION", hint="for example 'churn:1.0.0'"
        )
    _require_name(name, text)
    if _VERSION.match(version) is None or len(version) > MAX_VERSION:
        raise RefInvalidError(
            f"version {version!r} in reference {text!r} is not allowed: expected at most {MAX_VERSION} letters and "
            "digits with single '.', '_', '-' or '--' between them, not starting with 'sha256-' or 'alias-'",
            hint="for example '1.0.0', '2026.11.21' or 'g1f3a9c2'",
        )
    return name, version


def _require_name(name: str, text: str) -> None:
    if _NAME.match(name) is None or len(name) > MAX_NAME:
        raise RefInvalidError(
            f"name {name!r} in reference {text!r} is not allowed: expected at most {MAX_NAME} lower-case letters and "
            "digits with single '.', '_', '-', '--' or '/' between them",
            hint="for example 'churn' or 'team/churn'",
        )


def refs_of(entries: Sequence[Descriptor]) -> tuple[Ref, ...]:
    """The bundles among the entries of an `index.json`, sorted; entries of other tools are passed over."""
    refs = []
    for entry in entries:
        try:
            name, version = split_ref(entry.annotations.get(REF_NAME, ""))
        except RefInvalidError:
            continue
        refs.append(Ref(name=name, version=version, descriptor=entry))
    return tuple(sorted(refs, key=lambda ref: (ref.name, ref.version)))


def find(text: str, refs: Sequence[Ref]) -> Ref:
    """The one bundle that `text` means.

    Args:
        text: `NAME:VERSION`; `NAME` when it has one version; `NAME@sha256:…`; a digest, or 12 or more of its digits.
        refs: What there is.

    Raises:
        RefInvalidError: `text` breaks the grammar.
        RefNotFoundError: Nothing fits; the message has the nearest names.
        RefAmbiguousError: More than one fits.
    """
    named = [ref for ref in refs if ref.name == text]
    if named:
        return _only_version(text, named)
    if short_form := _SHORT.match(text):
        return _by_digest(text, short_form[1], refs)
    name, at, digest = text.partition("@")
    if at:
        return _by_name_and_digest(text, name, digest, refs)
    if ":" not in text:
        _require_name(text, text)
        raise _not_found(text, refs)
    split_ref(text)
    for ref in refs:
        if ref.text == text:
            return ref
    raise _not_found(text, refs)


def _only_version(name: str, named: Sequence[Ref]) -> Ref:
    if len(named) == 1:
        return named[0]
    versions = ", ".join(ref.version for ref in named[:8]) + (", …" if len(named) > 8 else "")
    raise RefAmbiguousError(
        f"reference {name!r} fits {len(named)} versions: {versions}",
        hint=f"name one, for example {named[-1].text!r}",
    )


def _by_digest(text: str, digits: str, refs: Sequence[Ref]) -> Ref:
    fitting = [ref for ref in refs if ref.digest.startswith(f"sha256:{digits}")]
    if not fitting:
        raise _not_found(text, refs)
    if len({ref.digest for ref in fitting}) > 1:
        found = ", ".join(f"{ref.text} ({short(ref.digest)})" for ref in fitting[:8])
        raise RefAmbiguousError(f"digest {text!r} fits {len(fitting)} bundles: {found}", hint="give more digits")
    return fitting[0]


def _by_name_and_digest(text: str, name: str, digest: str, refs: Sequence[Ref]) -> Ref:
    name = name.partition(":")[0]  # OCI allows NAME:TAG@DIGEST; the digest decides
    _require_name(name, text)
    if not is_digest(digest):
        raise RefInvalidError(
            f"digest {digest!r} in reference {text!r} is not allowed: expected 'sha256:' and 64 hex digits",
            hint=_HINT_GRAMMAR,
        )
    for ref in refs:
        if ref.name == name and ref.digest == digest:
            return ref
    raise _not_found(text, refs)


def _not_found(text: str, refs: Sequence[Ref]) -> RefNotFoundError:
    known = sorted({ref.text for ref in refs} | {ref.name for ref in refs})
    near = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else _HINT_LIST
    return RefNotFoundError(f"no bundle {text!r} in the store, which has {len(refs)}", hint=hint, ref=text)
