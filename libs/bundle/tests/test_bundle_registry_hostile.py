"""A registry that lies: whatever it sends, nothing gets a name, and no more is read than an image could be."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from registry_fakes import fetch
from store_fakes import names

from slipway_bundle.digest import digest_bytes
from slipway_bundle.errors import ManifestError, SlipwayError
from slipway_bundle.oci import INDEX_TYPE, MANIFEST_TYPE
from slipway_bundle.registry import TamperedError
from slipway_bundle.store import Store

Answer = tuple[int, dict[str, str], bytes]
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


class Liar:
    """Answers every path with what it was told to; remembers how many bytes it got rid of."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.written = 0
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                liar.answer(self)

            do_HEAD = do_GET  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def document(self, reference: str, data: bytes, media_type: str = INDEX_TYPE) -> str:
        """Serve `data` under a tag and its digest."""
        digest = digest_bytes(data)
        for name in (reference, digest):
            self.answers[f"/v2/a/manifests/{name}"] = (200, {"Content-Type": media_type}, data)
        return digest

    def answer(self, handler: Any) -> None:
        self.asked.append(handler.path)
        status, headers, body = self.answers.get(handler.path, (404, {}, b""))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if "Content-Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for start in range(0, len(body), 65536):
            try:
                self.written += handler.wfile.write(body[start : start + 65536])
            except OSError:
                handler.close_connection = True
                return


@contextmanager
def lying() -> Iterator[Liar]:
    liar = Liar()
    try:
        yield liar
    finally:
        liar.close()


@pytest.fixture
def liar() -> Iterator[Liar]:
    with lying() as found:
        yield found


def index(*children: dict[str, object], **more: object) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "artifactType": "application/vnd.slipway.bundle.v1+json",
            "manifests": children,
        }
        | more
    ).encode()


def child(digest: str, size: int, media_type: str = INDEX_TYPE) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def huge(liar: Liar) -> None:
    liar.document("1", index() + b" " * (64 << 20))


def not_json(liar: Liar) -> None:
    liar.document("1", b"<html>your session has expired</html>")


def duplicate_keys(liar: Liar) -> None:
    liar.document("1", index()[:-1] + b', "manifests": []}')


def deep_json(liar: Liar) -> None:
    liar.document("1", b'{"schemaVersion": 2, "manifests": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def two_in_one(liar: Liar) -> None:
    liar.document("1", index(layers=[], config={}))


def another_type_in_the_header(liar: Liar) -> None:
    liar.document("1", index(), MANIFEST_TYPE)


def another_type_of_docker(liar: Liar) -> None:
    liar.document("1", index(), DOCKER_INDEX)


def deep_documents(liar: Liar) -> None:
    data = index()
    for _ in range(12):
        data = index(child(liar.document("x", data), len(data)))
    liar.document("1", data)


def many_documents(liar: Liar) -> None:
    liar.document("1", index(*(child(digest_bytes(str(number).encode()), 10) for number in range(5000))))


def long_documents(liar: Liar) -> None:
    liar.document("1", index(*(child(digest_bytes(str(number).encode()), 4 << 20) for number in range(50))))


def a_child_of_another_size(liar: Liar) -> None:
    data = index()
    liar.document("1", index(child(liar.document("x", data), len(data) + 1)))


def a_child_of_another_kind(liar: Liar) -> None:
    liar.document("1", index(child(digest_bytes(b""), 0, "application/x-executable")))


def a_digest_of_another_algorithm(liar: Liar) -> None:
    liar.document("1", index(child("md5:d41d8cd98f00b204e9800998ecf8427e", 0)))


def a_path_for_a_digest(liar: Liar) -> None:
    liar.document("1", index(child("sha256:../../../../etc/passwd", 0)))


def a_negative_size(liar: Liar) -> None:
    liar.document("1", index(child(digest_bytes(b""), -1)))


def a_digest_in_the_header_that_is_another(liar: Liar) -> None:
    data = index()
    headers = {"Content-Type": INDEX_TYPE, "Docker-Content-Digest": digest_bytes(b"other")}
    liar.answers["/v2/a/manifests/1"] = (200, headers, data)


@pytest.mark.parametrize(
    "lie",
    [
        huge,
        not_json,
        duplicate_keys,
        deep_json,
        two_in_one,
        another_type_in_the_header,
        another_type_of_docker,
        deep_documents,
        many_documents,
        long_documents,
        a_child_of_another_size,
        a_child_of_another_kind,
        a_digest_of_another_algorithm,
        a_path_for_a_digest,
        a_negative_size,
        a_digest_in_the_header_that_is_another,
    ],
)
def test_a_hostile_document_is_refused_and_leaves_nothing(
    liar: Liar, store: Store, tmp_path: Path, lie: Callable[[Liar], None]
) -> None:
    lie(liar)

    with pytest.raises(TamperedError) as refused:
        fetch(f"{liar.host}/a:1", store, tmp_path)

    assert refused.value.exit_status == 1
    assert len(refused.value.message) < 1000
    assert names(store) == {}
    assert len(liar.asked) < 20
    assert liar.written < 16 << 20


def test_another_digest_than_was_asked_for_is_refused(liar: Liar, store: Store, tmp_path: Path) -> None:
    wanted = digest_bytes(b"wanted")
    liar.answers[f"/v2/a/manifests/{wanted}"] = (200, {"Content-Type": INDEX_TYPE}, index())

    with pytest.raises(TamperedError, match=f"expected {wanted}"):
        fetch(f"{liar.host}/a@{wanted}", store, tmp_path)


def test_a_blob_that_never_ends_is_read_no_further_than_its_size(liar: Liar, store: Store, tmp_path: Path) -> None:
    endless = bytes(32 << 20)
    digest = digest_bytes(b"x")
    liar.answers[f"/v2/a/blobs/{digest}"] = (200, {}, endless)
    leaf = {"mediaType": "application/vnd.slipway.manifest.v1+json", "digest": digest, "size": 1}
    data = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": leaf, "layers": []}).encode()
    manifest = child(liar.document("x", data, MANIFEST_TYPE), len(data), MANIFEST_TYPE)
    liar.document("1", index(manifest | {"annotations": {"io.slipway.role": "manifest"}}))

    with pytest.raises(TamperedError, match=digest):
        fetch(f"{liar.host}/a:1", store, tmp_path)

    assert liar.written < 16 << 20
    assert sum(path.stat().st_size for path in store.layout.ingest.iterdir()) == 0


def test_a_referrer_that_means_something_else_is_passed_over(liar: Liar, store: Store, tmp_path: Path) -> None:
    """The list says that it refers to this bundle; its own document does not."""
    root = liar.document("1", index())
    leaf = child(digest_bytes(b"{}"), 2, "application/vnd.oci.empty.v1+json")
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": leaf,
            "layers": [],
            "subject": child(digest_bytes(b"another"), 7),
        }
    ).encode()
    listed = child(liar.document("x", data, MANIFEST_TYPE), len(data), MANIFEST_TYPE)
    liar.answers[f"/v2/a/referrers/{root}"] = (200, {"Content-Type": INDEX_TYPE}, index(listed))

    with pytest.raises(ManifestError, match="role 'manifest'"):  # what is wrong is the bundle, not the referrer
        fetch(f"{liar.host}/a:1", store, tmp_path)

    assert store.entries() == ()


def test_an_error_of_a_registry_is_shown_without_its_control_characters(
    liar: Liar, store: Store, tmp_path: Path
) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "no\x1b[2J\r\nhint: run rm -rf"}]}).encode()
    liar.answers["/v2/a/manifests/1"] = (403, {}, body)

    with pytest.raises(SlipwayError) as refused:
        fetch(f"{liar.host}/a:1", store, tmp_path)

    assert "DENIED no" in refused.value.message
    assert refused.value.message.isprintable()
