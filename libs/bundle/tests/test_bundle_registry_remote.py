"""Remote references, and how long to wait: no network in here."""

from datetime import UTC, datetime, timedelta

import pytest

from slipway_bundle.digest import Digest
from slipway_bundle.registry import RemoteInvalidError, Retry, is_remote, parse_remote

DIGEST = Digest("sha256:" + "ab" * 32)
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("r.example.com/churn", "r.example.com", "churn", None, None),
        ("r.example.com/team/churn:1.0", "r.example.com", "team/churn", "1.0", None),
        ("localhost/churn:1", "localhost", "churn", "1", None),
        ("box:5000/churn:1", "box:5000", "churn", "1", None),
        ("127.0.0.1:5000/a/b_c--d:T_1", "127.0.0.1:5000", "a/b_c--d", "T_1", None),
        ("[::1]:5000/churn:1", "[::1]:5000", "churn", "1", None),
        (f"R.Example.com/churn@{DIGEST}", "r.example.com", "churn", None, DIGEST),
        (f"r.example.com/churn:1@{DIGEST}", "r.example.com", "churn", "1", DIGEST),
        ("https://localhost:5000/churn:1", "localhost:5000", "churn", "1", None),
    ],
)
def test_a_remote_reference_is_spelled_as_everywhere(
    text: str, host: str, repository: str, tag: str | None, digest: Digest | None
) -> None:
    remote = parse_remote(text)

    assert is_remote(text)
    assert (remote.host, remote.repository, remote.tag, remote.digest) == (host, repository, tag, digest)
    assert parse_remote(remote.text) == parse_remote(text.removeprefix("https://"))


@pytest.mark.parametrize("text", ["churn", "churn:1.0", "team/churn:1", f"churn@{DIGEST}", DIGEST, "a.b:1"])
def test_a_name_of_the_local_store_is_not_remote(text: str) -> None:
    assert not is_remote(text)


@pytest.mark.parametrize(
    "text",
    [
        "churn:1",
        "r.example.com/",
        "r.example.com/Churn:1",
        "r.example.com/../etc:1",
        "r.example.com/a//b:1",
        "r.example.com/churn:",
        "r.example.com/churn:-1",
        "r.example.com/churn:" + "x" * 129,
        "r.example.com/churn@sha256:short",
        "r.example.com/churn@md5:d41d8cd98f00b204e9800998ecf8427e",
        "r.example.com/churn?x=1",
        "r.example.com/churn#1",
        "user:password@r.example.com/churn:1",
        "r.example.com:99999999/churn:1",
        "ftp://r.example.com/churn:1",
        "r.example.com/churn\n:1",
        "oci:",
        "oci:/tmp/x:a\nb",
    ],
)
def test_what_breaks_the_grammar_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RemoteInvalidError, match="is not allowed") as refused:
        parse_remote(text)

    assert refused.value.hint is not None
    assert "HOST" in refused.value.hint


def test_a_layout_is_written_as_skopeo_writes_it() -> None:
    """The first `:` ends the folder, so the name may have one."""
    plain, named, exact = (parse_remote(f"oci:/x/y{rest}") for rest in ("", ":churn:1.0", f":@{DIGEST}"))

    assert (plain.repository, plain.tag) == ("/x/y", None)
    assert (named.repository, named.tag, named.text) == ("/x/y", "churn:1.0", "oci:/x/y:churn:1.0")
    assert (exact.repository, exact.digest) == ("/x/y", DIGEST)


@pytest.mark.parametrize("form", ["r.example.com:5000/team/churn", "oci:/x/y", "oci:/x-1.0/y_2"])
def test_what_is_printed_can_be_read_again(form: str) -> None:
    """A push prints a reference by digest; the next command gets exactly that."""
    place = parse_remote(form)
    exact, tagged = place.at(DIGEST), place.tagged("a1")

    assert parse_remote(place.text) == place
    assert parse_remote(exact.text) == exact
    assert parse_remote(tagged.text) == tagged


def test_latest_is_never_implied() -> None:
    with pytest.raises(RemoteInvalidError, match="`latest` is never implied"):
        _ = parse_remote("r.example.com/churn").reference


def test_pauses_grow_with_full_jitter_up_to_a_cap_and_then_end() -> None:
    retry = Retry(tries=6, base_s=0.5, cap_s=4.0)

    longest = [retry.pause_s(failures, 1.0, None, NOW) for failures in range(1, 7)]
    shortest = [retry.pause_s(failures, 0.0, None, NOW) for failures in range(1, 7)]

    assert longest == [0.5, 1.0, 2.0, 4.0, 4.0, None]
    assert shortest == [0.0] * 5 + [None]


def test_what_the_registry_asks_for_is_waited_for_within_reason() -> None:
    retry = Retry(tries=6, base_s=1.0, patience_s=60.0)
    date = (NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")

    assert retry.pause_s(1, 0.0, "7", NOW) == 7.0
    assert retry.pause_s(1, 0.5, "7", NOW) == 7.5
    assert retry.pause_s(1, 0.0, date, NOW) == 30.0
    assert retry.pause_s(1, 0.0, "61", NOW) is None
    assert retry.pause_s(1, 0.0, "soon", NOW) == 0.0
