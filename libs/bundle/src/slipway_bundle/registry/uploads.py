"""Uploads: a blob goes out by the best way that the registry offers.

    there already? -> mount from another repository -> in pieces, continued after a failure -> in one piece

The invariants: only the registry says how much it has (`Range`), and only the digest at the end says that it is right;
the bytes are hashed as they leave, so a damaged store is told from a damaged connection; where an upload stands is
noted in the store, so a killed process goes on from there. A registry that drops an upload which was cut off in the
middle of a piece, as Debian's docker-registry 2.8.2 does, gets that blob from its beginning.
Source: OCI distribution-spec v1.1, "Pushing blobs"; kitops#777 (registries that take no pieces).
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.disk import disk_errors
from slipway_bundle.errors import HostError
from slipway_bundle.locks import try_lock
from slipway_bundle.oci import Descriptor
from slipway_bundle.progress import Progress
from slipway_bundle.registry.errors import RegistryError, RemoteNotFoundError, TamperedError
from slipway_bundle.registry.protocol import Moved
from slipway_bundle.registry.remote import Remote
from slipway_bundle.registry.transport import Answer, Body, Transport
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobCorruptError

__all__ = ["CHUNK_BYTES", "NOTE_SUFFIX", "Uploads"]

CHUNK_BYTES = 64 << 20
"""One piece: few requests for gigabytes, and under what proxies take in one (100 MB with several of them)."""

READ_BYTES = 1 << 20
NOTE_SUFFIX = ".upload"

_RANGE = re.compile(r"^(?:bytes=)?0-([0-9]+)\Z")

_TAKEN = frozenset({200, 201, 202, 204})
_NO_PIECES = frozenset({400, 404, 405, 411, 413, 415, 416, 501})
"""Answers to a piece that mean: not like this. What the registry has, and whether it takes pieces, is then asked."""


class _Refused(Exception):
    """The registry does not take pieces, or not of this upload."""


class _Note(Struct, frozen=True):
    place: str
    digest: str
    location: str


class Uploads:
    """The uploads into one repository; any thread may push."""

    def __init__(self, remote: Remote, transport: Transport, scope: str, *, chunk_bytes: int) -> None:
        self._remote = remote
        self._transport = transport
        self._scope = scope
        self._blobs = f"/v2/{remote.repository}/blobs"
        self._chunk_bytes = chunk_bytes

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        what = f"looking for blob {digest}"
        return self._ask("HEAD", f"{self._blobs}/{digest}", what, frozenset({200, 404})).status == 200

    def link(self, descriptor: Descriptor, repositories: Sequence[str]) -> Moved | None:
        """Have the blob there without its bytes; see `protocol.Registry.link_blob`."""
        if self.has(descriptor.digest):
            return "present"
        for repository in repositories:
            query = urlencode({"mount": descriptor.digest, "from": repository})
            scope = f"{self._scope} repository:{repository}:pull"
            what = f"mounting blob {descriptor.digest}"
            answer = self._ask("POST", f"{self._blobs}/uploads/?{query}", what, _TAKEN | _NO_PIECES, scope=scope)
            if answer.status == 201:
                return "mounted"
            if answer.status == 202:  # it began an upload instead, which nobody wants
                self._cancel(self._location(answer))
        return None

    def push(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """Send one blob; see `protocol.Registry.push_blob`."""
        is_long = descriptor.size > self._chunk_bytes
        with (
            _Outgoing(store, descriptor, progress) as outgoing,
            _NoteFile(store, self._remote.place, descriptor.digest, is_used=is_long) as note,
        ):
            self._send(outgoing, note, note.load())
            note.forget()

    def _begin(self) -> str:
        return self._location(self._ask("POST", f"{self._blobs}/uploads/", "beginning an upload", _TAKEN))

    def _send(self, outgoing: "_Outgoing", note: "_NoteFile", location: str | None) -> None:
        """In pieces when there are several, else in one; what is refused in pieces is tried in one."""
        refusal: _Refused | None = None
        for is_last in (False, False, True):
            try:
                if outgoing.size > self._chunk_bytes and not (is_last or outgoing.is_refused):
                    return self._finish(outgoing, self._send_pieces(outgoing, note, location))
                return self._send_whole(outgoing)
            except _Refused as error:
                note.forget()
                refusal, location = error, None
        raise TamperedError(
            f"registry {self._transport.host!r} does not take blob {outgoing.digest}: {refusal}",
            hint="its bytes are right here; something between here and the registry changes them",
        )

    def _send_whole(self, outgoing: "_Outgoing") -> None:
        """POST, then PUT with everything in it. One POST with everything is not taken by every registry."""
        failures = 0
        while True:
            location = self._begin()
            try:
                return self._finish(outgoing, location, outgoing.body(0, outgoing.size))
            except RegistryError as error:
                if not error.fields.get("passing"):
                    raise
                failures += 1
                if not self._transport.pause(failures):
                    raise
                if self.has(outgoing.digest):  # only the answer was lost
                    return None

    def _send_pieces(self, outgoing: "_Outgoing", note: "_NoteFile", location: str | None) -> str:
        """Everything but the last word; the address of the upload then."""
        offset = best = failures = 0
        if location is not None:
            location, offset = self._where(location, outgoing) or (None, 0)
        while location is None or offset < outgoing.size:
            if location is None:
                location, offset = self._begin(), 0
                note.save(location)
            try:
                location, offset = self._send_piece(outgoing, location, offset)
            except RegistryError as error:
                # Only what no try before has reached is progress: an upload may be lost again and again.
                failures = 1 if offset > best else failures + 1
                best = max(best, offset)
                if not (error.fields.get("passing") and self._transport.pause(failures)):
                    raise
                location, offset = self._where(location, outgoing) or (None, 0)
            else:
                note.save(location)
        return location

    def _send_piece(self, outgoing: "_Outgoing", location: str, offset: int) -> tuple[str, int]:
        """One piece; where to go on, and from which byte, as the registry says."""
        count = min(self._chunk_bytes, outgoing.size - offset)
        answer = self._patch(outgoing, location, offset, count)
        location = self._location(answer)
        told = _offset(answer)
        if told is None:
            location, told = self._where(location, outgoing) or (location, 0)
        if not offset < told <= outgoing.size:
            raise _Refused(f"it says that it has {told} bytes, after {offset + count} were sent")
        return location, told

    def _patch(self, outgoing: "_Outgoing", location: str, offset: int, count: int) -> Answer:
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(count),
            "content-range": f"{offset}-{offset + count - 1}",
        }
        what = f"sending blob {outgoing.digest}"
        answer = self._ask("PATCH", location, what, _TAKEN | _NO_PIECES, headers, outgoing.body(offset, count))
        if answer.status in _NO_PIECES:
            outgoing.is_refused = answer.status not in {404, 416}  # those may mean this upload only
            raise _Refused(f"status {answer.status} to a piece of {count} bytes")
        return answer

    def _where(self, location: str, outgoing: "_Outgoing") -> tuple[str, int] | None:
        """How much of an upload the registry has; None: it does not know it any more, or has more than there is."""
        what = f"asking for the upload of blob {outgoing.digest}"
        try:
            answer = self._ask("GET", location, what, frozenset({200, 204, *_NO_PIECES}))
        except RemoteNotFoundError:
            return None
        offset = _offset(answer)
        if answer.status in _NO_PIECES or offset is None or offset > outgoing.size:
            return None
        return self._location(answer, location), offset

    def _finish(self, outgoing: "_Outgoing", location: str, body: Body | None = None) -> None:
        """Say the digest; the registry compares."""
        if body is None and outgoing.compute() != outgoing.digest:
            self._cancel(location)
            raise outgoing.corrupt()
        joint = "&" if "?" in location else "?"
        size = outgoing.size if body else 0
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        what = f"finishing blob {outgoing.digest}"
        target = f"{location}{joint}{urlencode({'digest': outgoing.digest})}"
        answer = self._ask("PUT", target, what, _TAKEN | _NO_PIECES, headers, body, is_retried=body is None)
        if answer.status in _TAKEN:
            if outgoing.compute() != outgoing.digest:  # hashed while it went; a registry ought to have noticed
                raise outgoing.corrupt()
            return
        if self.has(outgoing.digest):  # an earlier try of the same request arrived, and its answer did not
            return
        if outgoing.compute() != outgoing.digest:
            raise outgoing.corrupt()
        raise _Refused(f"status {answer.status} at the end of the upload")

    def _cancel(self, location: str) -> None:
        with suppress(RegistryError, RemoteNotFoundError):
            self._ask("DELETE", location, "giving up an upload", _TAKEN)

    def _ask(
        self,
        method: str,
        target: str,
        what: str,
        expected: frozenset[int],
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        *,
        is_retried: bool | None = None,
        scope: str = "",
    ) -> Answer:
        """A request whose body can be long; unless told otherwise, those are left to the caller to try again."""
        response = self._transport.request(
            method,
            target,
            what=what,
            expected=expected,
            scope=scope or self._scope,
            headers={"content-length": "0", **(headers or {})} if method in {"POST", "PUT"} else headers,
            body=body,
            is_retried=body is None if is_retried is None else is_retried,
        )
        return Answer(response.status_code, response.headers, self._transport.read(response, READ_BYTES, what))

    def _location(self, answer: Answer, default: str = "") -> str:
        location = answer.headers.get("location", default)
        if not location:
            raise RegistryError(f"registry {self._transport.host!r} began an upload and does not say where")
        return self._transport.address(location)


def _offset(answer: Answer) -> int | None:
    """The number of bytes that the registry has; `0-0` is nothing, as distribution writes it."""
    found = _RANGE.match(answer.headers.get("range", ""))
    return None if found is None else int(found[1]) + 1 if int(found[1]) else 0


class _Outgoing:
    """The bytes of one blob, read again for every try and hashed once."""

    def __init__(self, store: Store, descriptor: Descriptor, progress: Progress) -> None:
        self.digest = descriptor.digest
        self.size = descriptor.size
        self.is_refused = False
        """In pieces."""
        self._path = store.blob(descriptor.digest)
        self._progress = progress
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._told_bytes = 0
        with disk_errors(store.root, f"reading blob {descriptor.digest}"):
            self._file = self._path.open("rb", buffering=0)
        if (size := os.fstat(self._file.fileno()).st_size) != self.size:
            self._file.close()
            raise BlobCorruptError(
                f"blob {self.digest} has {size} bytes, expected {self.size}, in {str(self._path)!r}",
                hint="remove that file and build the bundle again, or pull it again",
                got=size,
                expected=self.size,
            )

    def __enter__(self) -> "_Outgoing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def body(self, offset: int, count: int) -> Body:
        """What makes the content of a request."""
        return lambda: self._read(offset, count)

    def _read(self, offset: int, count: int) -> Iterator[bytes]:
        end = offset + count
        while offset < end:
            chunk = os.pread(self._file.fileno(), min(READ_BYTES, end - offset), offset)
            if not chunk:
                raise self.corrupt()
            if offset == self._hashed_bytes:
                self._hash.update(chunk)
                self._hashed_bytes += len(chunk)
            offset += len(chunk)
            yield chunk
            if offset > self._told_bytes:
                self._progress.advance(offset - self._told_bytes)
                self._told_bytes = offset

    def compute(self) -> Digest:
        """The digest of all bytes, whoever sent them."""
        while chunk := os.pread(self._file.fileno(), READ_BYTES, self._hashed_bytes):
            self._hash.update(chunk)
            self._hashed_bytes += len(chunk)
        self._progress.advance(max(0, self.size - self._told_bytes))
        self._told_bytes = self.size
        return Digest("sha256:" + self._hash.hexdigest())

    def corrupt(self) -> BlobCorruptError:
        return BlobCorruptError(
            f"blob {self.digest} is damaged in the store: {str(self._path)!r} has other bytes",
            hint="remove that file and build the bundle again, or pull it again",
            path=str(self._path),
            expected=self.digest,
        )


class _NoteFile:
    """Where an upload stands, for the next process; without a place to write to, nothing is noted."""

    def __init__(self, store: Store, place: str, digest: Digest, *, is_used: bool) -> None:
        self._store = store
        self._place = place
        self._digest = digest
        name = hashlib.sha256(f"{place} {digest}".encode()).hexdigest()
        self._path = store.layout.ingest / f"{name}{NOTE_SUFFIX}"
        self._is_used = is_used
        self._descriptor: int | None = None

    def __enter__(self) -> "_NoteFile":
        if not self._is_used:
            return self
        with suppress(HostError, OSError), self._store.lease():
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)  # an address may hold a right to write
            if try_lock(descriptor):
                self._descriptor = descriptor
            else:  # another process is at this very upload
                os.close(descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def load(self) -> str | None:
        """The address of the unfinished upload."""
        if self._descriptor is None:
            return None
        with suppress(msgspec.MsgspecError, OSError):
            note = msgspec.json.decode(os.pread(self._descriptor, READ_BYTES, 0), type=_Note)
            if (note.place, note.digest) == (self._place, self._digest):
                return note.location
        return None

    def save(self, location: str) -> None:
        """Note it; a note that is half written is no note."""
        if self._descriptor is not None:
            data = msgspec.json.encode(_Note(self._place, self._digest, location))
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, data, 0)

    def forget(self) -> None:
        """It is done, or cannot go on."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                self._path.unlink(missing_ok=True)
