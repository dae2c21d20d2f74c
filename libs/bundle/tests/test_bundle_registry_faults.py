"""Whatever happens on the way, a tag is whole or not there, a blob is right or not there, and the next run goes on.

The registry is a real one; the proxy in front of it takes requests whole, as nginx does, unless a test says otherwise.
"""

from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from registry_fakes import PIECE_BYTES, SOON, copy_of, fetch, leaf_sizes, send
from registry_process import Fault, FaultProxy, RegistryProcess, Seen, running
from store_fakes import names, require_whole

from slipway_bundle.digest import Digest
from slipway_bundle.registry import RegistryError, RegistryRefusedError, TagTakenError, TamperedError
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobCorruptError


def once(kind: str, fault: Fault, *, nth: int = 1) -> Callable[[Seen], Fault | None]:
    """The `nth` request of a kind fails, the others do not."""
    matching = count(1)
    return lambda seen: fault if seen.kind == kind and next(matching) == nth else None


def always(kind: str, fault: Fault) -> Callable[[Seen], Fault | None]:
    return lambda seen: fault if seen.kind == kind else None


def every_kind_twice(fault: Fault) -> Callable[[Seen], Fault | None]:
    """Each kind of request fails the first two times."""
    seen_before: Counter[str] = Counter()

    def rule(seen: Seen) -> Fault | None:
        seen_before[seen.kind] += 1
        return fault if seen_before[seen.kind] <= 2 else None

    return rule


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=503),
        Fault(status=502, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Fault(cut=100),
        Fault(loses_answer=True),
    ],
    ids=["429", "503", "502", "cut", "answer lost"],
)
def test_a_storm_in_which_every_kind_of_request_fails_is_survived(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, store: Store, tmp_path: Path, fault: Fault
) -> None:
    name = f"storm/{abs(hash((fault.status, fault.cut, fault.loses_answer)))}"
    proxy.rule = every_kind_twice(fault)

    pushed = send(shelf.store, "tiny", f"{proxy.host}/{name}:1", tmp_path)
    proxy.rule = every_kind_twice(fault)
    fetch(f"{proxy.host}/{name}:1", store, tmp_path)

    assert pushed.digest == shelf.built.digest
    assert names(store) == names(shelf.store)
    require_whole(store)


def test_a_registry_that_stays_down_is_given_up_and_named(proxy: FaultProxy, shelf: Shelf, tmp_path: Path) -> None:
    proxy.rule = lambda _seen: Fault(status=503)

    with pytest.raises(RegistryError, match=r"status 503, 4 times in a row") as failed:
        send(shelf.store, "tiny", f"{proxy.host}/down/tiny:1", tmp_path)

    assert (failed.value.code, failed.value.exit_status, len(proxy.seen)) == ("registry", 3, 4)


def test_a_pause_longer_than_our_patience_is_not_waited_for(proxy: FaultProxy, shelf: Shelf, tmp_path: Path) -> None:
    proxy.rule = lambda _seen: Fault(status=429, headers={"Retry-After": "3600"})

    with pytest.raises(RegistryError, match="status 429, 1 times"):
        send(shelf.store, "tiny", f"{proxy.host}/busy/tiny:1", tmp_path)


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.e2e)])
def test_a_push_that_ends_anywhere_shows_no_tag_and_the_next_one_goes_on(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path, stride: int
) -> None:
    """The registry answers n requests and then no more, for every n, in one repository after the other."""
    whole = sum(leaf_sizes(shelf.store, "tiny").values())
    for turn, limit in enumerate(count(1, stride)):
        name = f"ends/by-{stride}-at-{limit}"
        proxy.seen.clear()
        proxy.rule = lambda seen, limit=limit: Fault(status=500) if seen.number > limit else None  # type: ignore[misc]
        try:
            send(shelf.store, "tiny", f"{proxy.host}/{name}:1", tmp_path)
            break
        except RegistryError:
            pass
        assert registry.tags(name) == set()

        proxy.rule = lambda _seen: None
        if turn % 4 == 1:  # to go on from each of fifty points would take minutes
            send(shelf.store, "tiny", f"{proxy.host}/{name}:1", tmp_path)
            assert registry.tags(name) == {"1"}
            assert proxy.sent_bytes() <= whole + 4 * PIECE_BYTES  # the refused piece, as often as it was tried
    assert limit > 40


def test_after_a_cut_only_that_piece_is_sent_again(proxy: FaultProxy, shelf: Shelf, tmp_path: Path) -> None:
    """Behind a proxy that takes requests whole, a cut piece never reaches the registry."""
    whole = sum(leaf_sizes(shelf.store, "tiny").values())
    longest = max(leaf_sizes(shelf.store, "tiny").values())
    pieces = -(-longest // PIECE_BYTES)
    assert pieces > 3
    for nth in {1, 2, pieces}:
        proxy.seen.clear()
        proxy.rule = once("PATCH upload", Fault(cut=700), nth=nth)

        send(shelf.store, "tiny", f"{proxy.host}/again/at-{nth}:1", tmp_path)

        assert proxy.sent_bytes() <= whole + 700, f"piece {nth}"


def test_a_registry_that_forgets_a_cut_upload_gets_that_blob_again(
    proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    """docker-registry 2.8.2 does, when it sees half of a piece; no other blob is sent twice."""
    sizes = leaf_sizes(shelf.store, "tiny")
    proxy.rule = once("PATCH upload", Fault(cut=700, passes_on=True), nth=3)

    send(shelf.store, "tiny", f"{proxy.host}/forgets/tiny:1", tmp_path)

    assert proxy.sent_bytes() == sum(sizes.values()) + 2 * PIECE_BYTES + 700


def test_a_process_that_comes_later_goes_on_where_the_first_one_stopped(
    proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    """The upload is noted in the store, so it outlives its process."""
    store = copy_of(shelf, tmp_path)
    patches = count(1)
    proxy.rule = lambda seen: Fault(status=500) if seen.kind == "PATCH upload" and next(patches) > 3 else None
    with pytest.raises(RegistryError):
        send(store, "tiny", f"{proxy.host}/later/tiny:1", tmp_path)
    proxy.rule = lambda _seen: None
    proxy.seen.clear()

    send(Store.open(store.root), "tiny", f"{proxy.host}/later/tiny:1", tmp_path)

    in_pieces = sum(size for size in leaf_sizes(store, "tiny").values() if size > PIECE_BYTES)
    patched = sum(len(seen.body) for seen in proxy.seen if seen.kind == "PATCH upload")
    assert patched == in_pieces - 3 * PIECE_BYTES
    assert list(store.layout.ingest.iterdir()) == []


def test_a_registry_that_restarts_in_the_middle_costs_one_piece(shelf: Shelf, tmp_path: Path) -> None:
    from registry_process import proxied

    with running(tmp_path / "own") as own, proxied(own) as proxy:
        patches = count(1)

        def rule(seen: Seen) -> Fault | None:
            if seen.kind == "PATCH upload" and next(patches) == 3:
                own.restart()
                return Fault(cut=700)
            return None

        proxy.rule = rule

        send(shelf.store, "tiny", f"{proxy.host}/restarted/tiny:1", tmp_path)

        assert proxy.sent_bytes() == sum(leaf_sizes(shelf.store, "tiny").values()) + 700
        assert own.tags("restarted/tiny") == {"1"}


@pytest.mark.parametrize("status", [404, 405, 413, 501])
def test_a_registry_that_takes_no_pieces_gets_the_blob_in_one(
    proxy: FaultProxy, shelf: Shelf, tmp_path: Path, status: int
) -> None:
    proxy.rule = always("PATCH upload", Fault(status=status))

    pushed = send(shelf.store, "tiny", f"{proxy.host}/whole/s{status}:1", tmp_path)

    assert pushed.digest == shelf.built.digest


def test_an_answer_without_a_range_is_asked_for_where_it_stands(
    proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    """ "Read back, never trust": the size of the upload is the registry's to say."""
    proxy.rule = always("PATCH upload", Fault(drop=("range",)))

    send(shelf.store, "tiny", f"{proxy.host}/norange/tiny:1", tmp_path)

    assert "GET upload" in proxy.kinds()
    assert proxy.sent_bytes() == sum(leaf_sizes(shelf.store, "tiny").values())


def test_a_pull_that_is_cut_at_every_chunk_goes_on_with_the_next_byte(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    send(shelf.store, "tiny", f"{registry.host}/cuts/tiny:1", tmp_path)
    came: Counter[str] = Counter()

    def rule(seen: Seen) -> Fault | None:
        if seen.kind != "GET blob":
            return None
        came[seen.path] += 500
        return Fault(cut=500)

    proxy.rule = rule

    fetch(f"{proxy.host}/cuts/tiny:1", store, tmp_path)

    sizes = {str(digest): size for digest, size in leaf_sizes(store, "tiny").items()}
    assert {path.rpartition("/")[2]: -(-total // 500) for path, total in came.items()} == {
        digest: -(-size // 500) for digest, size in sizes.items()
    }
    require_whole(store)


def test_what_arrived_before_a_failure_is_not_asked_for_again(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    send(shelf.store, "tiny", f"{registry.host}/keeps/tiny:1", tmp_path)
    longest = max(leaf_sizes(shelf.store, "tiny").items(), key=lambda each: each[1])
    asked: list[str] = []

    def rule(seen: Seen) -> Fault | None:
        if not seen.path.endswith(longest[0]):
            return None
        asked.append(seen.headers.get("range", ""))
        return Fault(cut=1000) if len(asked) == 1 else Fault(status=500) if len(asked) < 6 else None

    proxy.rule = rule
    with pytest.raises(RegistryError):
        fetch(f"{proxy.host}/keeps/tiny:1", store, tmp_path)
    assert names(store) == {}

    fetch(f"{proxy.host}/keeps/tiny:1", Store.open(store.root), tmp_path)

    assert set(asked[1:]) == {"bytes=1000-"}
    require_whole(store)


def test_a_registry_without_ranges_begins_again(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/noranges/tiny:1", tmp_path)
    blobs = count(1)

    def rule(seen: Seen) -> Fault | None:
        seen.headers.pop("range", None)
        return Fault(cut=100) if seen.kind == "GET blob" and next(blobs) % 2 else None

    proxy.rule = rule

    fetch(f"{proxy.host}/noranges/tiny:1", store, tmp_path)

    assert store.resolve("tiny") == pushed.digest
    require_whole(store)


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    "change", [flipped, lambda data: data + b"!", lambda data: data[:-1]], ids=["bit", "long", "short"]
)
@pytest.mark.parametrize("kind", ["GET blob", "GET manifest"])
def test_bytes_that_were_changed_on_the_way_never_get_a_name(
    registry: RegistryProcess,
    proxy: FaultProxy,
    shelf: Shelf,
    store: Store,
    tmp_path: Path,
    kind: str,
    change: Callable[[bytes], bytes],
) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/changed/tiny:1", tmp_path)
    proxy.rule = always(kind, Fault(answer=change))

    with pytest.raises((TamperedError, RegistryError)) as failed:
        fetch(f"{proxy.host}/changed/tiny@{pushed.digest}", store, tmp_path)

    assert failed.value.code in {"registry_tampered", "registry"}
    assert names(store) == {}
    for path in store.layout.blobs.iterdir():
        store.verify_blob(Digest(f"sha256:{path.name}"))


def test_a_part_that_is_wrong_is_thrown_away_not_continued_for_ever(
    registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    """What lies in the store from another run may be anything."""
    pushed = send(shelf.store, "tiny", f"{registry.host}/parts/tiny:1", tmp_path)
    with store.lease():
        for digest, size in leaf_sizes(shelf.store, "tiny").items():
            (store.layout.ingest / f"{digest[7:]}.part").write_bytes(bytes(size // 2))

    fetch(pushed.ref, store, tmp_path)

    assert store.resolve("tiny") == pushed.digest
    require_whole(store)


def test_a_blob_that_is_damaged_here_is_not_the_registrys_fault(
    registry: RegistryProcess, shelf: Shelf, tmp_path: Path
) -> None:
    store = copy_of(shelf, tmp_path)
    digest = max(leaf_sizes(store, "tiny").items(), key=lambda each: each[1])[0]
    path = store.layout.blob(digest)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(flipped(data))

    with pytest.raises(BlobCorruptError, match=digest):
        send(store, "tiny", f"{registry.host}/damaged/tiny:1", tmp_path)

    assert registry.tags("damaged/tiny") == set()


def test_a_tag_that_somebody_sets_meanwhile_is_not_overwritten(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    from store_fakes import put_bundle

    other = put_bundle(store, "x", "other:1")
    puts = count(1)

    def rule(seen: Seen) -> Fault | None:
        if seen.kind == "PUT manifest" and next(puts) == 2:
            send(store, "other:1", f"{registry.host}/raced/tiny:1", tmp_path)
        return None

    proxy.rule = rule

    with pytest.raises(TagTakenError, match=other.digest):
        send(shelf.store, "tiny", f"{proxy.host}/raced/tiny:1", tmp_path)


def test_a_refusal_is_not_tried_again(proxy: FaultProxy, shelf: Shelf, tmp_path: Path) -> None:
    proxy.rule = lambda _seen: Fault(status=403)

    with pytest.raises(RegistryRefusedError, match="status 403") as refused:
        send(shelf.store, "tiny", f"{proxy.host}/refused/tiny:1", tmp_path)

    assert len(proxy.seen) == 1
    assert refused.value.hint is not None
    assert "docker login" in refused.value.hint
    assert SOON.tries > 1
