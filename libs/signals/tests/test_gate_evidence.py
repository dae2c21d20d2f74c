"""Evidence says the same to everybody who recomputes it, and nobody can change a digit of it unseen."""

from pathlib import Path

import msgspec
import pytest
from gate_windows import PROMISES, Arms, gate_plan

from slipway_bundle.trust.dsse import SignatureError
from slipway_bundle.trust.keys import Signer, load_key, load_signer, make_key
from slipway_signals.gate.evidence import (
    Evidence,
    EvidenceError,
    Subject,
    digest_of,
    encode_evidence,
    open_evidence,
    sign_evidence,
)
from slipway_signals.gate.records import encode_window
from slipway_signals.gate.replaying import replay_evidence
from slipway_signals.gate.run import judge_windows


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of a slow candidate, decided in a few windows."""
    path = tmp_path_factory.mktemp("gate") / "windows.jsonl"
    path.write_bytes(b"\n".join(encode_window(window) for window in Arms(3, slower=1.3).windows(14)))
    subject = Subject(rollout="churn", pod_hash="7c9f", stage="10")
    return judge_windows(gate_plan(), PROMISES, path, subject=subject)


def signer(folder: Path, name: str = "release") -> Signer:
    """A key of its own."""
    private, public = make_key("ecdsa-p256")
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.pub").write_bytes(public)
    return load_signer(str(folder / f"{name}.key"), environ={})


def test_a_replay_gives_the_same_bytes(evidence: Evidence) -> None:
    """The verdict follows from the counts and from nothing else."""
    data = encode_evidence(evidence)

    again = replay_evidence(data)

    assert evidence.decision.verdict == "fail"
    assert (again.is_same, again.difference) == (True, None)
    assert encode_evidence(again.evidence) == data
    assert again.digest == digest_of(data)


def test_windows_after_the_decision_are_kept_and_replayed(evidence: Evidence) -> None:
    """All that was counted is there, whenever the gate had enough."""
    assert len(evidence.looks) < len(evidence.windows) - 3
    assert len(evidence.windows) == 14


LIES = {
    "the verdict": (b'"verdict":"fail"', b'"verdict":"pass"'),
    "a margin": (b'"margin":1.1', b'"margin":1.9'),
    "a level": (b'"alpha":0.05', b'"alpha":0.01'),
    "a space": (b'"alpha":0.05', b'"alpha": 0.05'),
}


@pytest.mark.parametrize("what", LIES)
def test_a_change_is_found_out(evidence: Evidence, what: str) -> None:
    """Wherever it is."""
    before, after = LIES[what]
    data = encode_evidence(evidence)
    assert before in data

    again = replay_evidence(data.replace(before, after, 1))

    assert not again.is_same
    assert again.difference


def test_a_changed_count_is_found_out(evidence: Evidence) -> None:
    """Of a window that was judged."""
    windows = list(evidence.windows)
    arms = windows[4].arms
    fewer = msgspec.structs.replace(arms["candidate"], failed={"timeout": 3})
    windows[4] = msgspec.structs.replace(windows[4], arms={**arms, "candidate": fewer})

    again = replay_evidence(encode_evidence(msgspec.structs.replace(evidence, windows=tuple(windows))))

    assert again.difference == "`looks` does not follow from what was counted"


def test_a_pass_that_somebody_wrote_in_is_recomputed(evidence: Evidence) -> None:
    """Nobody believes what evidence says of itself."""
    decision = msgspec.structs.replace(evidence.decision, verdict="pass")

    again = replay_evidence(encode_evidence(msgspec.structs.replace(evidence, decision=decision)))

    assert again.evidence.decision.verdict == "fail"
    assert again.difference == "the verdict is 'pass', and what was counted gives 'fail'"


def test_signed_evidence_is_believed_by_its_key_only(evidence: Evidence, tmp_path: Path) -> None:
    """With its signer's name."""
    data = sign_evidence(evidence, signer(tmp_path))
    signer(tmp_path, "other")

    opened = open_evidence(data + b"\n", [load_key(tmp_path / "release.pub")])

    assert opened.signer == "release"
    assert opened.data == encode_evidence(evidence)
    assert open_evidence(data).signer is None
    with pytest.raises(SignatureError):
        open_evidence(data, [load_key(tmp_path / "other.pub")])


def test_a_signature_of_other_evidence_counts_for_nothing(evidence: Evidence, tmp_path: Path) -> None:
    """The parts of two files do not make a third."""
    key = signer(tmp_path)
    other = sign_evidence(msgspec.structs.replace(evidence, subject=None), key)
    mixed = sign_evidence(evidence, key).partition(b',"signature":')[0]
    mixed += b',"signature":' + other.partition(b',"signature":')[2]

    with pytest.raises(SignatureError):
        open_evidence(mixed, [load_key(tmp_path / "release.pub")])


def test_unsigned_evidence_is_refused_where_a_signature_is_asked_for(evidence: Evidence, tmp_path: Path) -> None:
    """No signature is no signature."""
    signer(tmp_path)

    with pytest.raises(SignatureError, match="not signed"):
        open_evidence(encode_evidence(evidence), [load_key(tmp_path / "release.pub")])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"evidence":{},"signature":{}}', b"\xff"])
def test_what_is_no_evidence_is_refused_by_name(data: bytes) -> None:
    """An error, not a verdict."""
    with pytest.raises(EvidenceError):
        open_evidence(data)


def test_nothing_can_be_hidden_in_a_signed_file(evidence: Evidence, tmp_path: Path) -> None:
    """Two `evidence` in one file are none."""
    data = sign_evidence(evidence, signer(tmp_path))
    double = b'{"evidence":{},' + data[1:]

    with pytest.raises(EvidenceError, match="canonical"):
        open_evidence(double)
