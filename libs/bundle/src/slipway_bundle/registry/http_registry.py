"""A repository of a registry, spoken to over HTTP.

Blobs are moved by `downloads.py` and `uploads.py`. The invariants: a document is read with a limit and has the digest
that was asked for; a document that two readers could take for two things is refused.
Sources: OCI distribution-spec v1.1.1; CVE-2021-41190 (ambiguous media types); Debian's docker-registry 2.8.2, which has
no referrers API and answers 404.
"""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, urlencode

from msgspec import Struct

from slipway_bundle.canonical import MAX_JSON_BYTES, canonical_json, decode_json
from slipway_bundle.digest import Digest, digest_bytes, is_digest
from slipway_bundle.oci import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageIndex,
    make_index,
)
from slipway_bundle.progress import Progress
from slipway_bundle.registry.documents import ACCEPTED, media_type_of
from slipway_bundle.registry.downloads import download
from slipway_bundle.registry.errors import RegistryError, RemoteNotFoundError, TamperedError
from slipway_bundle.registry.protocol import Moved
from slipway_bundle.registry.remote import Remote
from slipway_bundle.registry.transport import Transport
from slipway_bundle.registry.uploads import CHUNK_BYTES, Uploads
from slipway_bundle.store import Store
from slipway_bundle.store_errors import JsonError

__all__ = ["HttpRegistry"]

ACCEPT = f"{INDEX_TYPE}, {MANIFEST_TYPE}, {DOCKER_INDEX_TYPE}, {DOCKER_MANIFEST_TYPE}"

MAX_TAGS = 100_000
MAX_PAGES = 1_000

MERGES = 6
"""How often a list of referrers is merged when others write it at the same time."""

_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')
_REFERRERS_TAG = re.compile(r"^sha256-[0-9a-f]{64}")
_UNSUPPORTED = frozenset({400, 404, 405, 406, 501})


class _Tags(Struct):
    tags: tuple[str, ...] | None = None


class HttpRegistry:
    """One repository behind HTTP; see `protocol.Registry` for its methods."""

    def __init__(self, remote: Remote, transport: Transport, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._remote = remote
        self._transport = transport
        self._path = f"/v2/{remote.repository}"
        self._pull = f"repository:{remote.repository}:pull"
        self._push = f"repository:{remote.repository}:pull,push"
        self._uploads = Uploads(remote, transport, self._push, chunk_bytes=chunk_bytes)

    @property
    def place(self) -> str:
        """As one would write it."""
        return self._remote.place

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def resolve(self, reference: str) -> Descriptor | None:
        """By a HEAD, where the registry says the digest in it."""
        answer = self._transport.ask(
            "HEAD",
            f"{self._path}/manifests/{reference}",
            what=f"looking for {reference!r}",
            expected={200, 404},
            scope=self._pull,
            headers={"accept": ACCEPT},
        )
        if answer.status == 404:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        size, media_type = answer.headers.get("content-length", ""), answer.headers.get("content-type", "")
        if is_digest(digest) and size.isdecimal() and media_type in ACCEPTED:
            return Descriptor(media_type=media_type, digest=Digest(digest), size=int(size))
        return self.read_manifest(reference)[1]

    def read_manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """See the protocol."""
        answer = self._transport.ask(
            "GET",
            f"{self._path}/manifests/{reference}",
            what=f"reading manifest {reference!r} of {self.place!r}",
            expected={200, 404},
            scope=self._pull,
            headers={"accept": ACCEPT},
            max_bytes=MAX_JSON_BYTES,
        )
        if answer.status == 404:
            raise self._not_found(reference)
        got = digest_bytes(answer.data)
        told = answer.headers.get("docker-content-digest", "")
        expected = reference if is_digest(reference) else told if is_digest(told) else got
        if got != expected:
            raise TamperedError(
                f"manifest {reference!r} of {self.place!r} is not what it should be: got {got}, expected {expected}",
                hint="somebody between here and the registry changed it, or the registry is damaged",
                got=got,
                expected=expected,
            )
        media_type = media_type_of(answer.data, answer.headers.get("content-type", ""), f"manifest {got}")
        return answer.data, Descriptor(media_type=media_type, digest=got, size=len(answer.data))

    def has(self, digest: Digest) -> bool:
        """By a HEAD."""
        return self._uploads.has(digest)

    def fetch_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """See the protocol."""
        download(self._transport, f"{self._path}/blobs/{descriptor.digest}", self._pull, descriptor, store, progress)

    def link_blob(self, descriptor: Descriptor, repositories: Sequence[str] = ()) -> Moved | None:
        """See the protocol."""
        return self._uploads.link(descriptor, repositories)

    def push_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """See the protocol."""
        self._uploads.push(descriptor, store, progress)

    def put_manifest(self, data: bytes, descriptor: Descriptor, reference: str, subject: Digest | None = None) -> None:
        """See the protocol."""
        answer = self._transport.ask(
            "PUT",
            f"{self._path}/manifests/{reference}",
            what=f"writing manifest {reference!r} to {self.place!r}",
            expected={200, 201, 202},
            scope=self._push,
            headers={"content-type": descriptor.media_type},
            content=data,
        )
        told = answer.headers.get("docker-content-digest", descriptor.digest)
        if told != descriptor.digest:
            raise TamperedError(
                f"{self.place!r} stored something else under {reference!r}: got {told}, expected {descriptor.digest}",
                got=told,
                expected=descriptor.digest,
            )
        if subject is not None and "oci-subject" not in answer.headers:
            self._list_by_tag(subject, descriptor)

    def tags(self) -> tuple[str, ...]:
        """See the protocol."""
        found: list[str] = []
        for page in self._pages(f"{self._path}/tags/list?n=1000", "reading the tags"):
            found += decode_json(page, _Tags, what=f"the tags of {self.place!r}").tags or ()
            if len(found) > MAX_TAGS:
                raise TamperedError(f"{self.place!r} lists more than {MAX_TAGS} tags")
        return tuple(sorted(tag for tag in set(found) if not _REFERRERS_TAG.match(tag)))

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """By the referrers API, else by the tag that registries without it have."""
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        try:
            pages = list(self._pages(f"{self._path}/referrers/{subject}{query}", "reading the referrers", _UNSUPPORTED))
            listed = [each for page in pages for each in self._index(page, subject)]
        except (RemoteNotFoundError, JsonError):
            listed = list(self._listed_by_tag(subject))
        chosen = {each.digest: each for each in listed if artifact_type in {None, each.artifact_type}}
        return tuple(sorted(chosen.values(), key=lambda each: (each.artifact_type or "", each.digest)))

    def _pages(self, target: str, what: str, missing: frozenset[int] = frozenset({404})) -> Iterator[bytes]:
        for _ in range(MAX_PAGES):
            answer = self._transport.ask(
                "GET",
                target,
                what=f"{what} of {self.place!r}",
                expected={200, *missing},
                scope=self._pull,
                max_bytes=MAX_JSON_BYTES,
            )
            if answer.status != 200:
                raise self._not_found(None)
            yield answer.data
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return
            target = following[1]
        raise TamperedError(f"{self.place!r} has more than {MAX_PAGES} pages while {what}")

    def _index(self, data: bytes, subject: Digest) -> tuple[Descriptor, ...]:
        return decode_json(data, ImageIndex, what=f"the referrers of {subject} in {self.place!r}").manifests

    def _listed_by_tag(self, subject: Digest) -> tuple[Descriptor, ...]:
        try:
            data, _ = self.read_manifest(_tag_of(subject))
        except RemoteNotFoundError:
            return ()
        return self._index(data, subject)

    def _list_by_tag(self, subject: Digest, descriptor: Descriptor) -> None:
        """Add to the list under the tag. No registry compares before it writes, so: read, merge, write, look again."""
        wanted = {descriptor.digest: descriptor}
        for failures in range(1, MERGES + 1):
            known = {each.digest: each for each in self._listed_by_tag(subject)}
            if wanted.keys() <= known.keys():
                return
            wanted |= known
            listed = tuple(sorted(wanted.values(), key=lambda each: each.digest))
            data = canonical_json(make_index(listed))
            index = Descriptor(media_type=INDEX_TYPE, digest=digest_bytes(data), size=len(data))
            self.put_manifest(data, index, _tag_of(subject))
            if failures > 1:
                self._transport.pause(1)
        raise RegistryError(
            f"{self.place!r} lost the list of what refers to {subject} {MERGES} times: others write it all the time",
            hint="run the same command again",
        )

    def _not_found(self, reference: str | None) -> RemoteNotFoundError:
        what = f"{reference!r} is not" if reference else "nothing is"
        return RemoteNotFoundError(
            f"{what} in {self.place!r}",
            hint=f"`slipway registry list {quote(self.place, safe='/:.')}` prints the tags that are there",
            ref=reference,
        )


def _tag_of(subject: Digest) -> str:
    """Where registries without the API keep the list (distribution-spec, "Referrers Tag Schema")."""
    return subject.replace(":", "-")
