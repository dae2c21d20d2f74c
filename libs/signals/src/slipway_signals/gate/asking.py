"""One gate run from what somebody typed to its evidence: files and flags become a plan, the plan is checked and run.

It judges nothing. The invariant: nothing is sent before the plan can conclude, the interface is compatible and the
golden examples replay; each of these is in the evidence, whether it was asked or left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.errors import FileError, UsageError
from slipway_bundle.golden import Golden
from slipway_signals.gate.checking import check_compatible, check_golden, read_golden
from slipway_signals.gate.ending import Ending
from slipway_signals.gate.evidence import Evidence, Subject, digest_of, encode_evidence, sign_evidence
from slipway_signals.gate.known import KnownBundle, known_of
from slipway_signals.gate.margins import Promises, promises_of
from slipway_signals.gate.plan import GatePlan, make_plan, parse_plan
from slipway_signals.gate.preflight import Preflight, foresee, refuse
from slipway_signals.gate.records import ARMS, Arm
from slipway_signals.gate.run import judge_windows, run_gate
from slipway_signals.gate.verdict import Check, Look

if TYPE_CHECKING:
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import Signer

__all__ = ["Asked", "Prepared", "conduct", "prepare", "subject_of", "write_evidence"]

LONGEST_S: Final = 900.0
"""A run whose length nobody said is no longer."""


class Asked(Struct, frozen=True, kw_only=True):
    """What somebody typed."""

    plan: Path | None = None
    """A `gate.toml`."""

    slo: Path | None = None
    """An `slo.yaml`; None: that of the candidate's bundle, if there is one."""

    urls: dict[Arm, str] = {}
    admins: dict[Arm, str] = {}
    bundles: dict[Arm, str] = {}
    """References in the local store: who should answer, and which golden examples it has."""

    known: dict[Arm, KnownBundle] = {}
    """Bundles that were read elsewhere, of a registry; `bundles` of the same arm wins."""

    golden: dict[Arm, Path] = {}
    rate: float | None = None
    seconds: float | None = None
    path: str | None = None
    windows: Path | None = None
    """Windows that were counted already; nothing is sent."""

    is_same: bool = False
    subject: Subject | None = None


class Prepared(Struct, frozen=True, kw_only=True):
    """A plan that can be run, and what it stands on."""

    plan: GatePlan
    promises: Promises | None
    golden: dict[Arm, tuple[Golden, ...]]
    preflight: Preflight | None
    """None where nothing is sent."""


def prepare(asked: Asked, store: "Callable[[], Store]") -> Prepared:
    """Read all files, merge flags over them, and foresee whether the plan can conclude; sends nothing.

    Args:
        asked: What was typed.
        store: Opens the local store; called only when a bundle is named.

    Raises:
        ConfigError: The plan cannot be followed.
        UsageError: Something that is needed was not said.
        FileError, SloError, GoldenError: A file cannot be read.
    """
    raw = _tables(asked)
    golden: dict[Arm, tuple[Golden, ...]] = {arm: read_golden(path) for arm, path in asked.golden.items()}
    slo = _read(asked.slo) if asked.slo is not None else None
    stored = {arm: _of_bundle(store(), ref) for arm, ref in asked.bundles.items()}
    for arm, bundle in {**asked.known, **stored}.items():
        digests = raw.setdefault("digests", {})
        if isinstance(digests, dict):
            digests.setdefault(arm, bundle.digest)
        golden.setdefault(arm, bundle.golden)
        if arm == "candidate" and slo is None:
            slo = bundle.slo
    plan = make_plan(raw, where=str(asked.plan or "the gate plan"))
    if plan.load is None and asked.windows is None:
        raise UsageError("nothing says whom to compare", hint="name both servers with `--stable` and `--candidate`")
    if plan.load is not None and asked.windows is None and set(plan.load.arms) != set(ARMS):
        raise UsageError("the gate compares two servers: expected `--stable` and `--candidate`")
    promises = None if slo is None else _promises(slo, str(asked.slo or "slo.yaml of the bundle"), plan)
    preflight = None
    if asked.windows is None and plan.load is not None:
        load = raw.get("load")
        if isinstance(load, dict) and "seconds" not in load:
            plan = _lengthened(plan, foresee(plan, promises))
        preflight = foresee(plan, promises)
    return Prepared(plan=plan, promises=promises, golden=golden, preflight=preflight)


def conduct(
    asked: Asked,
    prepared: Prepared,
    environ: Mapping[str, str],
    *,
    is_forced: bool = False,
    announce: Callable[[Look], None] = lambda _: None,
    ending: Ending | None = None,
) -> Evidence:
    """Check, send, judge. Blocks for the length of the plan at most.

    Args:
        asked: What was typed.
        prepared: What `prepare` made of it.
        environ: Where the keys are that the plan names.
        is_forced: Whether a plan that cannot conclude is run all the same; it then cannot pass.
        announce: Called after each look.
        ending: Ends the run early.

    Raises:
        CannotConcludeError: The plan cannot conclude, and nobody insists.
        ArmUnreachableError, LoadProcessError: A server, or the load process, is not there.
    """
    plan = prepared.plan
    if asked.windows is not None:
        return judge_windows(plan, prepared.promises, asked.windows, subject=asked.subject, announce=announce)
    checks: list[Check] = []
    if prepared.preflight is not None:
        if not is_forced:
            refuse(prepared.preflight)
        checks.append(prepared.preflight.check)
    if plan.load is not None:
        checks.append(check_compatible(plan.load, environ))
        checks += check_golden(plan, prepared.golden, environ)
    return run_gate(plan, prepared.promises, checks, subject=asked.subject, announce=announce, ending=ending)


def write_evidence(evidence: Evidence, path: Path, signer: "Signer | None" = None) -> str:
    """Write evidence in one step, signed when there is a signer; gives its digest.

    Raises:
        FileError: It cannot be written.
        SignerError: The key service does not answer or refuses.
    """
    from slipway_bundle.disk import write_file

    data = encode_evidence(evidence) if signer is None else sign_evidence(evidence, signer)
    try:
        write_file(path, data + b"\n", through=path.parent, mode=0o644)
    except OSError as error:
        raise FileError(f"the evidence cannot be written to {str(path)!r}: {error.strerror}", path=str(path)) from error
    return digest_of(encode_evidence(evidence))


def subject_of(rollout: str | None, pod_hash: str | None, stage: str | None) -> Subject | None:
    """Which step this is about: all three, or none.

    Raises:
        UsageError: Some were said and some were not, or one is empty or longer than 253 characters.
    """
    said = {"rollout": rollout, "pod_hash": pod_hash, "stage": stage}
    if all(value is None for value in said.values()):
        return None
    try:
        return msgspec.convert({name: value for name, value in said.items() if value is not None}, Subject)
    except msgspec.ValidationError as error:
        raise UsageError(f"`--rollout`, `--pod-hash` and `--stage` go together: {error}") from error


def _tables(asked: Asked) -> dict[str, object]:
    """The plan's tables with the flags over them."""
    raw = {} if asked.plan is None else parse_plan(_read(asked.plan), where=str(asked.plan))
    if asked.is_same:
        raw["is_same"] = True
    flags: dict[str, object] = {
        name: value for name, value in (("rate", asked.rate), ("seconds", asked.seconds)) if value is not None
    }
    load = raw.get("load", {})
    if not isinstance(load, dict):
        return raw  # `make_plan` says what it should be
    arms = load.get("arms", {})
    arms = {arm: dict(target) for arm, target in arms.items()} if isinstance(arms, dict) else {}
    for field, values in (("url", asked.urls), ("admin", asked.admins)):
        for arm, value in values.items():
            arms.setdefault(arm, {})[field] = value
    if asked.path is not None:
        flags["scenarios"] = [{"path": asked.path}]
    if arms:
        raw["load"] = {**load, **flags, "arms": arms}
    return raw


def _lengthened(plan: GatePlan, foreseen: Preflight) -> GatePlan:
    """As long as the plan takes to conclude, where nobody said how long."""
    if plan.load is None or foreseen.can_conclude:
        return plan
    needed_s = max(plan.at_least_s, *(one.seconds for one in foreseen.forecasts), plan.at_least / plan.load.rate)
    seconds = min(math.ceil(needed_s + plan.load.warm_up_s) + 1.0, LONGEST_S)
    return replace(plan, load=replace(plan.load, seconds=seconds))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error


def _of_bundle(store: "Store", ref: str) -> KnownBundle:
    from slipway_bundle.stored import read_bundle

    return known_of(store, read_bundle(store, ref), ref)


def _promises(data: bytes, name: str, plan: GatePlan) -> Promises:
    from slipway_signals.slo.openslo import slos_of

    paths: Sequence[str] = () if plan.load is None else [scenario.path for scenario in plan.load.scenarios]
    return promises_of(slos_of(data, name), digest_of(data), paths)
