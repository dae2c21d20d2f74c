"""Remote references: which registry, which repository, which tag or digest.

It opens no connection. The invariant: a `Remote` is spelled as every OCI tool spells it, so a line can be copied
between `slipway`, `skopeo` and a manifest of Kubernetes; nothing is implied, neither a registry nor `latest`.

    HOST[:PORT]/REPOSITORY[:TAG][@sha256:…]     a registry; `https://` or `http://` in front chooses the protocol
    oci:FOLDER[:TAG]                            an OCI image layout on disk, used as if it were a repository

Source: OCI distribution-spec v1.1 ("Pulling manifests": the grammar of names and tags).
"""

import ipaddress
import re
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.digest import Digest, is_digest
from slipway_bundle.oci import REF_NAME
from slipway_bundle.registry.errors import RemoteInvalidError

__all__ = ["LAYOUT_SCHEME", "Remote", "is_remote", "parse_remote"]

LAYOUT_SCHEME = "oci:"

_HOST = re.compile(r"^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?\Z")
_REPOSITORY = re.compile(
    r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z",
)
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_LAYOUT_TAG = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._:@/+-]*[A-Za-z0-9])?\Z")

_HINT = (
    "write HOST[:PORT]/REPOSITORY[:TAG][@sha256:…] or oci:FOLDER[:TAG], for example 'registry.example.com/churn:1.0'"
)


class Remote(Struct, frozen=True, kw_only=True):
    """A place in a registry, or in a layout on disk."""

    host: str
    """`host` or `host:port`, in lower case; empty for a layout."""

    repository: str
    """The repository; for a layout, its folder."""

    tag: str | None = None
    digest: Digest | None = None
    scheme: str | None = None
    """`http` or `https` when it was written, `oci` for a layout; None leaves it to the client."""

    @property
    def is_layout(self) -> bool:
        """Whether it is a folder on disk."""
        return self.scheme == "oci"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, where plain HTTP is no risk."""
        name = self.host.rpartition(":")[0] if re.search(r":[0-9]+\Z", self.host) else self.host
        if name in {"localhost", "[::1]"}:
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def place(self) -> str:
        """Without tag and digest, as it is written."""
        if self.is_layout:
            return f"{LAYOUT_SCHEME}{self.repository}"
        return f"{self.host}/{self.repository}"

    @property
    def text(self) -> str:
        """As it is written."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.place}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def reference(self) -> str:
        """What names the manifest in a request: the digest, else the tag.

        Raises:
            RemoteInvalidError: It has neither.
        """
        found = self.digest or self.tag
        if found is None:
            raise RemoteInvalidError(
                f"{self.text!r} names no version: got neither a tag nor a digest, and `latest` is never implied",
                hint=f"`slipway registry list {self.text}` prints the tags that are there",
                ref=self.text,
            )
        return found

    def at(self, digest: Digest) -> "Remote":
        """The same place, by digest alone: what is safe to write down."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> "Remote":
        """The same place under another tag.

        Raises:
            RemoteInvalidError: The tag breaks the grammar.
        """
        grammar = _LAYOUT_TAG if self.is_layout else _TAG
        if grammar.match(tag) is None:
            raise RemoteInvalidError(
                f"{tag!r} is no tag: expected at most 128 letters, digits, '_', '.' and '-', not beginning with one "
                "of the last two",
                hint="for example '1.0.0'",
                tag=tag,
            )
        return replace(self, tag=tag, digest=None)


def is_remote(text: str) -> bool:
    """Whether `text` means a registry or a layout, not a bundle of the local store.

    It does when it begins with `oci:` or a protocol, or when what stands before its first `/` has a dot or a port or
    is `localhost`.
    """
    if text.startswith((LAYOUT_SCHEME, "http://", "https://")):
        return True
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def parse_remote(text: str) -> Remote:
    """`text` as a remote reference.

    Raises:
        RemoteInvalidError: It breaks the grammar; the message says where.
    """
    if text.startswith(LAYOUT_SCHEME):
        return _parse_layout(text)
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme not in {"http", "https"}:
        raise _invalid(text, f"the protocol is {scheme!r}, expected 'https' or 'http'")
    host, slash, path = rest.partition("/")
    if not slash or not is_remote(rest):
        raise _invalid(
            text, f"{host!r} is no registry: expected a dot, a port or 'localhost' in what stands before '/'"
        )
    if _HOST.match(host) is None:
        raise _invalid(text, f"{host!r} is no host")
    path, at, digest = path.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, f"{digest!r} is no digest, expected 'sha256:' and 64 lower-case hex digits")
    repository, _, tag = path.partition(":")
    if _REPOSITORY.match(repository) is None or len(repository) > 255:
        raise _invalid(text, f"{repository!r} is no repository, expected lower-case letters, digits and single '.-_/'")
    if ":" in path and _TAG.match(tag) is None:
        raise _invalid(text, f"{tag!r} is no tag, expected at most 128 letters, digits, '_', '.' and '-'")
    return Remote(
        host=host.lower(),
        repository=repository,
        tag=tag or None,
        digest=Digest(digest) if at else None,
        scheme=scheme or None,
    )


def _parse_layout(text: str) -> Remote:
    """Like skopeo: the first `:` after the folder begins the name, which may have one of its own."""
    body, at, digest = text.removeprefix(LAYOUT_SCHEME).rpartition("@")
    if not (at and is_digest(digest)):
        body, digest = text.removeprefix(LAYOUT_SCHEME), ""
    folder, _, name = body.partition(":")
    if not folder:
        raise _invalid(text, "the folder is missing")
    place = Remote(host="", repository=str(Path(folder).absolute()), scheme="oci")
    if digest:
        return place.at(Digest(digest))
    if name and _LAYOUT_TAG.match(name) is None:
        raise _invalid(text, f"{name!r} is no value of {REF_NAME}")
    return place.tagged(name) if name else place


def _invalid(text: str, reason: str) -> RemoteInvalidError:
    return RemoteInvalidError(f"remote reference {text!r} is not allowed: {reason}", hint=_HINT, ref=text)
