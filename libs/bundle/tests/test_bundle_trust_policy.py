"""The policy: without rules nothing is asked; each rule refuses what it should, by name, and says how to meet it."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from msgspec.structs import replace
from trust_fakes import NOW, Keys, copy_of

from slipway_bundle.digest import parse_digest
from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.policy import Policy, load_policy
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefNotFoundError
from slipway_bundle.stored import read_bundle
from slipway_bundle.trust.approvals import ApprovalError, approve
from slipway_bundle.trust.evaluation import PolicyRefusedError, evaluate, refuse_folder, require_allowed
from slipway_bundle.trust.explanation import explain
from slipway_bundle.trust.findings import Finding, Verdict
from slipway_bundle.trust.keys import KeyFileError
from slipway_bundle.trust.models import sign_models
from slipway_bundle.trust.rules import Place, age, images, licences
from slipway_bundle.trust.signatures import sign

SIGNED = '[signatures]\nby = ["release"]\n'


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    folder = tmp_path / "keys"
    folder.mkdir()
    return Keys(folder)


@pytest.fixture
def copy(tmp_path: Path, shelf: Shelf) -> Store:
    return copy_of(shelf, tmp_path / "copy")


def judge(store: Store, policy: Policy, target: str = "tiny", *, days: float = 0, with_blobs: bool = False) -> Verdict:
    return evaluate(store, target, policy, now=NOW + timedelta(days=days), with_blobs=with_blobs)


def refused(verdict: Verdict) -> Finding:
    """The one finding that refuses: it must say how to meet the rule."""
    (finding,) = [each for each in verdict.findings if each.status == "refused"]
    assert not verdict.is_allowed
    assert finding.got
    assert finding.hint
    return finding


def place_of(shelf: Shelf, policy: Policy, **changed: object) -> Place:
    """The shelf's bundle, with another manifest, as a rule sees it."""
    bundle = read_bundle(shelf.store, "tiny")
    manifest = replace(bundle.manifest, **changed)
    changed_bundle = replace(bundle, manifest=manifest)
    return Place(store=shelf.store, bundle=changed_bundle, ref=None, policy=policy, now=NOW)


def test_without_rules_nothing_is_asked_and_nothing_is_read(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "nowhere")

    assert judge(store, Policy(), "churn:1") == Verdict(is_allowed=True)


def test_an_unsigned_bundle_is_refused_and_a_signed_one_is_not(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED, "release")

    finding = refused(judge(copy, policy))
    assert (finding.rule, finding.expected) == ("signatures.by", "release")
    assert "slipway bundle sign" in (finding.hint or "")

    sign(copy, "tiny", keys.signer("stranger"), now=NOW)
    assert "unknown key" in refused(judge(copy, policy)).got
    sign(copy, "tiny", keys.signer("release"), now=NOW)
    assert judge(copy, policy).is_allowed
    assert judge(copy, policy, copy.find("tiny").digest).is_allowed


def test_what_is_refused_is_an_error_that_names_the_rule(copy: Store, keys: Keys) -> None:
    with pytest.raises(PolicyRefusedError, match=r"refuses 'tiny' by `signatures.by`: got no signature") as error:
        require_allowed(copy, "tiny", keys.policy(SIGNED, "release"), now=NOW)

    assert error.value.code == "policy_refused"
    assert error.value.exit_status == 1
    assert "slipway bundle sign" in (error.value.hint or "")


def test_a_threshold_counts_keys_and_not_names(copy: Store, keys: Keys) -> None:
    rules = '[signatures]\nby = ["release", "second"]\nthreshold = 2\n'
    policy = keys.policy(rules, "release", "second")
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    assert refused(judge(copy, policy)).rule == "signatures.threshold"
    (keys.folder / "second.pub").write_bytes((keys.folder / "release.pub").read_bytes())
    assert refused(judge(copy, policy)).rule == "signatures.threshold"
    (keys.folder / "second.key").unlink()
    keys.make("second")
    sign(copy, "tiny", keys.signer("second"), now=NOW)
    assert judge(copy, policy).is_allowed


def test_signatures_age(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED + 'max_age = "30d"\n', "release")
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    assert judge(copy, policy, days=29).is_allowed
    assert "older than 30d" in refused(judge(copy, policy, days=31)).got


def test_a_key_counts_until_its_last_day(copy: Store, keys: Keys) -> None:
    keys.policy("", "release")
    (keys.folder / "policy.toml").write_text(f'[keys.release]\nfile = "release.pub"\nuntil = 2026-12-01\n{SIGNED}')
    policy = load_policy(keys.folder)
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    assert judge(copy, policy, days=9).is_allowed
    assert "counted until 2026-12-01" in refused(judge(copy, policy, days=10)).got


def test_the_models_own_signature_can_be_asked_for(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED + "models = true\n", "release")
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    assert refused(judge(copy, policy)).rule == "signatures.models"
    sign_models(copy, read_bundle(copy, "tiny"), keys.signer("release"))
    assert judge(copy, policy).is_allowed


def test_an_old_bundle_under_a_new_name_is_refused(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED, "release")
    sign(copy, "tiny", keys.signer("release"), now=NOW)
    bundle = read_bundle(copy, "tiny")
    copy.publish("tiny:2.0.0", bundle.descriptor)

    finding = refused(judge(copy, policy, "tiny:2.0.0"))

    assert finding.rule == "signatures.name"
    assert finding.got == f"tiny:{bundle.manifest.version} under the name tiny:2.0.0"
    for asked in (bundle.digest, bundle.digest[7:20], f"tiny@{bundle.digest}"):
        assert judge(copy, policy, asked).is_allowed


def test_a_changed_byte_of_the_weights_is_refused_only_where_blobs_are_read(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED, "release")
    sign(copy, "tiny", keys.signer("release"), now=NOW)
    file = read_bundle(copy, "tiny").manifest.models[0].files[0]
    path = copy.blob(parse_digest(file.layer))
    data = bytearray(path.read_bytes())
    data[file.offset] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)

    assert judge(copy, policy).is_allowed
    assert refused(judge(copy, policy, with_blobs=True)).rule == "bundle.blobs"


def test_a_damaged_document_is_refused_and_no_exception(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED, "release")
    sign(copy, "tiny", keys.signer("release"), now=NOW)
    path = copy.blob(copy.find("tiny").digest)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + b" ")

    assert refused(judge(copy, policy)).rule == "bundle"


def test_a_damaged_referrer_is_refused(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED, "release")
    referrer = sign(copy, "tiny", keys.signer("release"), now=NOW)
    copy.blob(referrer.digest).unlink()

    assert refused(judge(copy, policy)).rule == "signatures"


def test_approvals_come_from_named_people_who_did_not_sign(copy: Store, keys: Keys) -> None:
    rules = SIGNED + '[approvals]\nby = ["ann", "bert", "release"]\nrequired = 2\nmax_age = "7d"\n'
    policy = keys.policy(rules, "release", "ann", "bert")
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    assert refused(judge(copy, policy)).rule == "approvals.required"
    approve(copy, "tiny", keys.signer("ann"), reason="tested", now=NOW)
    approve(copy, "tiny", keys.signer("ann"), reason="tested twice", now=NOW)
    assert "approved by ann only" in refused(judge(copy, policy)).got
    approve(copy, "tiny", keys.signer("stranger"), now=NOW)
    assert "approved by ann only" in refused(judge(copy, policy)).got
    approve(copy, "tiny", keys.signer("bert"), now=NOW)
    assert judge(copy, policy).is_allowed
    assert "older than 7d" in refused(judge(copy, policy, days=8)).got


def test_nobody_approves_what_they_signed(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED + '[approvals]\nby = ["ann", "release"]\n', "release", "ann")
    approve(copy, "tiny", keys.signer("release"), now=NOW)
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    assert "'release' signed the bundle" in refused(judge(copy, policy)).got
    with pytest.raises(ApprovalError, match="nobody approves what they signed"):
        approve(copy, "tiny", keys.signer("release"), now=NOW)


def test_an_approval_is_no_signature_nor_the_reverse(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED + '[approvals]\nby = ["ann"]\n', "release", "ann")
    approve(copy, "tiny", keys.signer("release"), now=NOW)
    sign(copy, "tiny", keys.signer("ann"), now=NOW)

    rules = [finding.rule for finding in judge(copy, policy).findings if finding.status == "refused"]

    assert rules == ["signatures.by", "approvals.required"]


@pytest.mark.parametrize(
    ("stated", "allowed", "is_met"),
    [
        ("Apache-2.0", ["Apache-2.0"], True),
        ("Apache-2.0", ["MIT"], False),
        ("MIT OR GPL-3.0-only", ["MIT"], True),
        ("MIT AND GPL-3.0-only", ["MIT"], False),
        ("MIT AND (Apache-2.0 OR GPL-3.0-only)", ["MIT", "Apache-2.0"], True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only"], False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only WITH Classpath-exception-2.0"], True),
        ("Our own licence", ["MIT"], False),
    ],
)
def test_a_licence_is_met_by_allowed_ones_alone(
    shelf: Shelf, keys: Keys, stated: str, allowed: list[str], is_met: bool
) -> None:
    policy = keys.policy(f"[licences]\nallow = {allowed}\n")
    place = place_of(shelf, policy, licenses=(stated,))
    assert policy.licences is not None

    (finding,) = licences(place, policy.licences)

    assert (finding.status == "ok") is is_met
    assert is_met or (stated in finding.got and finding.hint)


def test_a_bundle_without_a_licence_is_refused_where_one_is_asked_for(shelf: Shelf, keys: Keys) -> None:
    policy = keys.policy('[licences]\nallow = ["MIT"]\n')
    assert policy.licences is not None

    (finding,) = licences(place_of(shelf, policy, licenses=()), policy.licences)

    assert (finding.status, finding.got) == ("refused", "no licence")
    assert judge(shelf.store, keys.policy('[licences]\nallow = ["Apache-2.0"]\n')).is_allowed


def test_formats_and_what_loading_them_may_do(copy: Store, keys: Keys) -> None:
    assert judge(copy, keys.policy('[formats]\nallow = ["xgboost"]\ntrust = ["safe-data"]\n')).is_allowed
    assert refused(judge(copy, keys.policy('[formats]\nallow = ["onnx"]\n'))).rule == "formats.allow"
    assert refused(judge(copy, keys.policy('[formats]\ntrust = ["safe-graph"]\n'))).rule == "formats.trust"


def test_a_bundle_is_refused_when_it_is_too_old_or_does_not_say(shelf: Shelf, keys: Keys) -> None:
    policy = keys.policy('[age]\nmax = "30d"\n')
    assert policy.age is not None

    def told(created: str | None) -> Finding:
        assert policy.age is not None
        (finding,) = age(place_of(shelf, policy, created=created), policy.age)
        return finding

    assert told("2026-10-24T12:00:00Z").status == "ok"
    assert told("2026-10-22T12:00:00Z").got.endswith("31 days ago")
    assert told("2026-10-22T12:00:00Z").status == "refused"
    assert "does not say when" in told(None).got
    assert refused(judge(shelf.store, policy)).rule == "age.max"


BASE = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("name", "digest", "bases", "is_allowed"),
    [
        ("registry.example.com/python:3.11", BASE, ["registry.example.com/python"], True),
        ("registry.example.com:5000/python", BASE, ["registry.example.com:5000/*"], True),
        ("registry.example.com/python@" + BASE, BASE, ["registry.example.com/python"], True),
        ("anything", BASE, [BASE], True),
        ("registry.example.com/python", BASE, ["registry.example.com/python@" + BASE], True),
        ("registry.example.com/python", None, ["registry.example.com/python"], False),
        ("registry.example.com/pythonic", BASE, ["registry.example.com/python"], False),
        ("evil.example.org/python", BASE, ["registry.example.com/*"], False),
        (None, BASE, ["*"], False),
        (None, None, [BASE], False),
    ],
)
def test_an_image_stands_on_an_allowed_base(
    shelf: Shelf, keys: Keys, name: str | None, digest: str | None, bases: list[str], is_allowed: bool
) -> None:
    policy = keys.policy(f"[images]\nbases = {bases}\n")
    place = place_of(shelf, policy)
    given = {"org.opencontainers.image.base.name": name, "org.opencontainers.image.base.digest": digest}
    annotations = {key: value for key, value in given.items() if value is not None}
    image = replace(place.bundle.children["modelcar"][0], annotations=annotations)
    with_image = replace(place.bundle, children=place.bundle.children | {"image": (image,)})
    assert policy.images is not None

    (finding,) = images(place._replace(bundle=with_image), policy.images)

    assert (finding.rule, finding.status) == ("images.bases", "ok" if is_allowed else "refused")


def test_a_bundle_without_an_image_is_refused_only_where_one_is_asked_for(shelf: Shelf, keys: Keys) -> None:
    rules = '[images]\nbases = ["*"]\n'

    assert judge(shelf.store, keys.policy(rules)).is_allowed
    assert refused(judge(shelf.store, keys.policy(rules + "required = true\n"))).rule == "images.required"


def test_a_folder_runs_unless_the_policy_says_no(tmp_path: Path, keys: Keys) -> None:
    refuse_folder(tmp_path, keys.policy(SIGNED, "release"))

    with pytest.raises(PolicyRefusedError, match=r"folders\.allow"):
        refuse_folder(tmp_path, keys.policy("[folders]\nallow = false\n"))


def test_what_cannot_be_judged_is_an_error(copy: Store, keys: Keys) -> None:
    policy = keys.policy(SIGNED, "release")
    with pytest.raises(RefNotFoundError):
        judge(copy, policy, "twin")
    (keys.folder / "release.pub").write_text("not a key")
    with pytest.raises(KeyFileError):
        judge(copy, policy)
    (keys.folder / "release.pub").unlink()
    with pytest.raises(FileError):
        judge(copy, policy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[signature]\nby = []\n", "did you mean `signatures`"),
        ('[signatures]\nby = ["release"]\nthreshhold = 1\n', "did you mean `threshold`"),
        ('[signatures]\nby = ["relaese"]\n', "did you mean `release`"),
        ("[signatures]\nby = []\n", "length >= 1"),
        ('[signatures]\nby = ["release"]\nthreshold = 2\n', "more than the names"),
        ('[signatures]\nby = ["release", "release"]\n', "a name twice"),
        ('[signatures]\nby = ["release"]\nmax_age = "a week"\n', "max_age"),
        ('[approvals]\nby = ["release"]\nrequired = 2\n', "more than the names"),
        ('[formats]\nallow = ["pickle"]\n', "Invalid enum value 'pickle'"),
        ('[keys.ci]\nidentity = "ci"\n', "`identity` and `issuer`"),
        ("[keys.ci]\n", "`identity` and `issuer`"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(keys: Keys, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        keys.policy(text, "release")

    assert said in str(refused.value)


def test_a_policy_is_found_by_its_file_or_above_a_folder(keys: Keys, tmp_path: Path) -> None:
    policy = keys.policy(SIGNED, "release")
    (keys.folder / "a" / "b").mkdir(parents=True)

    assert load_policy(keys.folder / "a" / "b") == load_policy(keys.folder / "policy.toml") == policy
    assert policy.keys["release"].file == os.fspath(keys.folder / "release.pub")
    with pytest.raises(FileError, match="no policy at"):
        load_policy(tmp_path / "nowhere.toml")


def test_the_example_of_the_page_is_a_policy_that_can_be_explained(keys: Keys) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "policy.md").read_text()
    example = page.partition("<!-- policy -->")[2].partition("```toml\n")[2].partition("```")[0]
    (keys.folder / "keys").mkdir()
    for name in ("release", "ann", "bert", "ci"):
        keys.make(name)
        (keys.folder / f"{name}.pub").rename(keys.folder / "keys" / f"{name}.pub")
    (keys.folder / "policy.toml").write_text(example)

    policy = load_policy(keys.folder)

    explained = {line.rule: line.text for line in explain(policy)}
    assert explained["signatures.by"] == "the bundle is signed by release, under its own name"
    assert explained["approvals.required"] == "1 of ann or bert approved it, in the last 30d, and did not sign it"
    tables = {rule.partition(".")[0] for rule in explained}
    assert tables == {field for field in policy.__struct_fields__ if getattr(policy, field)} - {
        "keys",
        "admission",
        "pickle",
    }
