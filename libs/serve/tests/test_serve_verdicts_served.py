"""The verdict service as CI and a rollout meet it: its own process, real keys, real evidence, and kill -9."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from gate_evidence import SUBJECT, evidence_of, refused
from gate_windows import Arms
from msgspec.structs import replace
from verdicts_process import QUERY, now, until, verdicts

from slipway_bundle.trust.key_files import write_pair
from slipway_bundle.trust.keys import load_signer
from slipway_serve.access.keys import new_key, revoke_keys
from slipway_serve.verdicts.client import VerdictClient
from slipway_serve.verdicts.errors import ServiceUnreachableError
from slipway_signals.gate.evidence import Evidence, encode_evidence, sign_evidence

pytestmark = pytest.mark.slow

MAX_MB = 2


class World:
    """One service with keys, for all tests that only talk to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys.json"
        self.writes = new_key(self.keys, "ci", scopes=("verdicts:write",)).key
        self.reads = new_key(self.keys, "rollouts", scopes=("verdicts:read",)).key
        self.neither = new_key(self.keys, "billing", scopes=("predict",)).key
        self.client: httpx.Client

    def post(self, evidence: Evidence | bytes, key: str | None = None) -> httpx.Response:
        body = evidence if isinstance(evidence, bytes) else encode_evidence(evidence)
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        return self.client.post("/evidence", content=body, headers=headers)

    def ask(self, stage: str = SUBJECT.stage, **changed: str) -> dict[str, Any]:
        answer = self.client.get("/verdict", params={**QUERY, "stage": stage, **changed})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("verdicts"))
    with verdicts(made.folder, "--keys", made.keys, "--max-body-mb", str(MAX_MB), key=made.writes) as (client, _):
        made.client = client
        yield made


@pytest.fixture(scope="module")
def passing() -> Evidence:
    """A good candidate's run."""
    return evidence_of(Arms(1).windows(80), finished=now())


def test_a_stage_that_nobody_judged_is_inconclusive(world: World) -> None:
    told = world.ask("nobody")

    assert (told["verdict"], told["evidence"], told["runs"]) == ("inconclusive", None, 0)


def test_a_good_candidates_evidence_is_answered_with_pass_to_its_stage_only(world: World, passing: Evidence) -> None:
    kept = world.post(passing)

    assert (kept.status_code, kept.json()["verdict"], kept.json()["by"]) == (201, "pass", "ci")
    told = world.ask()
    assert (told["verdict"], told["evidence"]) == ("pass", kept.json()["evidence"])
    for name in QUERY:
        assert world.ask(**{name: "other"})["verdict"] == "inconclusive"


def test_the_same_evidence_twice_is_one_run(world: World) -> None:
    body = refused("twice", now())

    first, again = world.post(body), world.post(body)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert world.ask("twice")["runs"] == 1


def test_a_changed_verdict_is_not_believed(world: World) -> None:
    """The service judges what was counted; what evidence says of itself is only compared."""
    honest = refused("lie", now())
    lie = replace(honest, decision=replace(honest.decision, verdict="pass"))

    answer = world.post(lie)

    assert (answer.status_code, answer.json()["code"]) == (422, "gate_replay_differs")
    assert "the verdict is 'pass', and what was counted gives 'fail'" in answer.json()["detail"]
    assert world.ask("lie")["runs"] == 0


def test_a_changed_count_is_not_believed(world: World, passing: Evidence) -> None:
    windows = list(passing.windows)
    windows[5] = replace(windows[5], arms={**windows[5].arms, "candidate": windows[6].arms["candidate"]})

    answer = world.post(replace(passing, windows=tuple(windows), subject=replace(SUBJECT, stage="count")))

    assert (answer.status_code, answer.json()["code"]) == (422, "gate_replay_differs")
    assert world.ask("count")["runs"] == 0


def test_evidence_about_no_rollout_is_refused_with_the_way_out(world: World) -> None:
    answer = world.post(evidence_of(subject=None, checks=refused("x").checks))

    assert (answer.status_code, answer.json()["code"]) == (422, "gate_subject_missing")
    assert "--rollout R --pod-hash H --stage S" in answer.json()["hint"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"evidence":1}', b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 9_000])
def test_what_is_no_evidence_is_a_problem_document(world: World, body: bytes) -> None:
    answer = world.post(body)

    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["code"] == "evidence_invalid"


def test_a_body_over_the_limit_is_refused(world: World) -> None:
    answer = world.post(b" " * (MAX_MB * 1_000_000 + 1))

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_an_old_run_is_kept_and_does_not_count(world: World) -> None:
    world.post(refused("old", now(timedelta(days=2))))

    told = world.ask("old")

    assert (told["verdict"], told["runs"]) == ("inconclusive", 1)
    assert "a verdict counts for 24.0 h" in told["reason"]


@pytest.mark.parametrize(
    ("key", "post", "ask", "code"),
    [
        ("writes", 422, 200, ""),
        ("reads", 403, 200, "scope_missing"),
        ("neither", 403, 403, "scope_missing"),
        ("slw_00000000_" + "A" * 43, 401, 401, "credentials_invalid"),
        ("?", 401, 401, "credentials_invalid"),
    ],
)
def test_a_key_does_what_its_scopes_say(world: World, key: str, post: int, ask: int, code: str) -> None:
    sent = getattr(world, key, key)
    headers = {"authorization": f"Bearer {sent}"}

    posted = world.client.post("/evidence", content=b"{}", headers=headers)
    asked = world.client.get("/verdict", params=QUERY, headers=headers)

    assert (posted.status_code, asked.status_code) == (post, ask)
    refusals = [one for one in (posted, asked) if one.status_code in {401, 403}]
    assert {one.json()["code"] for one in refusals} <= {code}
    assert sent == "?" or sent not in posted.text + asked.text


def test_who_shows_no_key_learns_nothing(world: World, passing: Evidence) -> None:
    digest = world.post(passing).json()["evidence"]
    with httpx.Client(base_url=world.client.base_url, trust_env=False) as stranger:
        paths = ("/verdict", "/verdicts", f"/evidence/{digest}", f"/evidence/{digest}/report")
        refused_ = [stranger.get(path, params=QUERY) for path in paths]
        with_header = stranger.get("/verdict", params=QUERY, headers={"x-api-key": world.reads})

    assert [one.status_code for one in refused_] == [401] * len(paths)
    assert {one.json()["code"] for one in refused_} == {"credentials_missing"}
    assert with_header.status_code == 200


def test_a_key_that_is_revoked_is_refused_within_seconds(world: World) -> None:
    key = new_key(world.keys, "leaving", scopes=("verdicts:read",)).key
    headers = {"authorization": f"Bearer {key}"}

    def status() -> int:
        return world.client.get("/verdict", params=QUERY, headers=headers).status_code

    assert until(status, 200)
    revoke_keys(world.keys, "leaving")
    assert until(status, 401)


def test_the_evidence_and_its_report_can_be_read(world: World, passing: Evidence) -> None:
    digest = world.post(passing).json()["evidence"]

    evidence = world.client.get(f"/evidence/{digest}")
    report = world.client.get(f"/evidence/{digest}/report")
    listed = world.client.get("/verdicts", params={"rollout": SUBJECT.rollout}).json()["verdicts"]

    assert evidence.content == encode_evidence(passing)
    assert report.headers["content-type"].startswith("text/html")
    assert report.headers["content-security-policy"].startswith("default-src 'none'")
    assert "Pass: the candidate is no worse than stable" in report.text
    assert digest in [one["evidence"] for one in listed]
    assert world.client.get("/verdicts", params={"rollout": "other"}).json() == {"verdicts": []}
    assert world.client.get("/evidence/sha256:0").json()["code"] == "evidence_unknown"


@pytest.mark.parametrize("query", [{"rollout": "a", "stage": "1"}, {**QUERY, "stage": "x" * 254}, {}])
def test_a_question_without_its_parts_is_refused(world: World, query: dict[str, str]) -> None:
    answer = world.client.get("/verdict", params=query)

    assert (answer.status_code, answer.json()["code"]) == (400, "query_invalid")
    assert "expected 1 to 253" in answer.json()["detail"]


def test_probes_need_no_key(world: World) -> None:
    with httpx.Client(base_url=world.client.base_url, trust_env=False) as probe:
        assert [probe.get(path).text for path in ("/livez", "/readyz")] == ["ok", "ok"]


def test_unsigned_evidence_is_refused_where_a_signature_is_asked_for(tmp_path: Path) -> None:
    pair, other = write_pair(tmp_path, "release", "ecdsa-p256"), write_pair(tmp_path, "other", "ecdsa-p256")
    evidence = refused("signed", now())
    signed = sign_evidence(evidence, load_signer(pair.private, environ={}))
    forged = sign_evidence(evidence, load_signer(other.private, environ={}))
    moved = signed.replace(b'"stage":"signed"', b'"stage":"moved0"')
    with verdicts(tmp_path, "--signer", pair.public) as (client, _):
        codes = [client.post("/evidence", content=body) for body in (encode_evidence(evidence), forged, moved)]
        kept = client.post("/evidence", content=signed)
        again = client.get(f"/evidence/{kept.json()['evidence']}")

    assert [(one.status_code, one.json()["code"]) for one in codes] == [(422, "signature_invalid")] * 3
    assert (kept.status_code, kept.json()["verdict"]) == (201, "fail")
    assert again.content == signed


def test_a_service_that_is_not_there_is_asked_again_and_then_told() -> None:
    waited: list[float] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = VerdictClient(url, "slw_secret", pauses_s=(1.0, 4.0), wait=waited.append)

        with pytest.raises(ServiceUnreachableError, match=url) as told:
            client.post(b"{}")

    assert waited == [1.0, 4.0]
    assert "slw_secret" not in str(told.value)


def test_what_a_service_refuses_is_told_at_once_in_its_words(world: World) -> None:
    waited: list[float] = []
    client = VerdictClient(str(world.client.base_url), world.reads, wait=waited.append)

    with pytest.raises(ServiceUnreachableError, match=r"403: the key lacks a scope, expected verdicts:write"):
        client.post(b"{}")

    assert waited == []
