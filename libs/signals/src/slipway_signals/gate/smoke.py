"""Smoke: what is asked of a candidate that has no traffic yet, before any load is sent.

It compares with no other server: what the candidate shows and answers is compared with the bundle that it should be.
The invariant: it asks once for each golden example, marked as synthetic; what cannot be asked has failed, or is said to
be left out, and one failure is a failure of all.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import Struct

from slipway_bundle.compatibility import Contract, compare_contracts, contract_of_openapi
from slipway_bundle.errors import UsageError
from slipway_signals.gate.checking import ArmUnreachableError, check_golden
from slipway_signals.gate.known import KnownBundle
from slipway_signals.gate.load_plan import LoadPlan, Scenario, Target
from slipway_signals.gate.plan import GatePlan

if TYPE_CHECKING:
    import httpx

__all__ = ["READY_S", "Probe", "await_ready", "probe_candidate"]

READY_S: Final = 60.0
"""A pod that is ready may not be in every node's table yet."""

PAUSE_S: Final = 0.25
TIMEOUT_S: Final = 10.0
SHOWN: Final = 5


class Probe(Struct, frozen=True, kw_only=True):
    """One thing that was asked."""

    name: Literal["interface", "golden", "identity", "metrics"]
    status: Literal["ok", "failed", "skipped"]
    text: str
    details: tuple[str, ...] = ()


def await_ready(
    name: str, url: str, seconds: float = READY_S, *, pause: Callable[[float], object] = time.sleep
) -> None:
    """Until a server says that it is ready; one without `/readyz` is, as soon as it answers. gRPC is not asked.

    Raises:
        ArmUnreachableError: It did not say so in time; the message has what it said last.
    """
    import httpx

    if url.startswith("grpc"):
        return
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = httpx.get(f"{url.rstrip('/')}/readyz", timeout=TIMEOUT_S, trust_env=False)
            if not answer.is_server_error:
                return
            said = f"`/readyz` has status {answer.status_code}: {answer.text.strip()[:200]}"
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
        if time.monotonic() >= deadline:
            raise ArmUnreachableError(
                f"{name} at {url} was not ready in {seconds:g} s: {said}",
                hint="its log says why; `--ready-s` waits longer",
                arm=name,
            )
        pause(PAUSE_S)


def probe_candidate(
    known: KnownBundle, target: Target, *, environ: Mapping[str, str], path: str | None = None
) -> tuple[Probe, ...]:
    """Ask a candidate that is ready. Blocks up to 10 s a golden example.

    Args:
        known: The bundle that it should be.
        target: Where it is; its admin port is asked for metrics when it is named.
        environ: Where the key is that the target names.
        path: Of the endpoint that golden examples are rows of; None: the only route of the bundle.
    """
    import httpx

    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        probes = [_interface(known.contract, target, client), *_golden(known, target, environ, path)]
        return (*probes, _metrics(target, client))


def _interface(contract: Contract, target: Target, client: "httpx.Client") -> Probe:
    """What it shows to callers is what the bundle says, in both directions."""
    import httpx

    try:
        answer = client.get(f"{target.url.rstrip('/')}/openapi.json")
        if answer.status_code != 200:
            text = f"`/openapi.json` has status {answer.status_code}: the pages of the server are switched off"
            return Probe(name="interface", status="skipped", text=text)
        shown = contract_of_openapi(msgspec.json.decode(answer.content))
        told = Contract(name=contract.name, version=contract.version, endpoints=contract.endpoints)
        findings = compare_contracts(told, shown).findings
    except (httpx.HTTPError, msgspec.MsgspecError, UsageError) as error:
        return Probe(name="interface", status="failed", text=f"the interface cannot be read: {error}")
    if shown.version != told.version or findings:
        details = [f"{one.where} {one.field}: {one.what} is {one.after}, expected {one.before}" for one in findings]
        text = f"the candidate shows {shown.name}:{shown.version}, expected {told.name}:{told.version}"
        return Probe(
            name="interface",
            status="failed",
            text=f"{text}; {details[0]}" if details else text,
            details=tuple(details[:SHOWN]),
        )
    return Probe(name="interface", status="ok", text=f"the candidate shows {shown.name}:{shown.version}")


def _golden(known: KnownBundle, target: Target, environ: Mapping[str, str], path: str | None) -> list[Probe]:
    """The examples over HTTP, and who answers them."""
    routes = [one.path for one in known.contract.endpoints if one.method == "POST"]
    models = {one.model for one in known.golden}
    asked = path or (routes[0] if len(routes) == 1 else None)
    if asked is None or len(models) != 1:
        text = f"{len(known.golden)} golden examples of {len(models)} models and {len(routes)} routes"
        text += ": left out here, every server replays them when it starts"
        return [Probe(name="golden", status="skipped", text=text)]
    load = LoadPlan(arms={"candidate": target}, scenarios=(Scenario(path=asked),))
    plan = GatePlan(load=load, digests={"candidate": known.digest})
    checks = check_golden(plan, {"candidate": known.golden}, environ)
    return [
        Probe(name=check.name, status=check.status, text=check.text, details=check.details)
        for check in checks
        if check.arm == "candidate" and check.name in {"golden", "identity"}
    ]


def _metrics(target: Target, client: "httpx.Client") -> Probe:
    """Without metrics nobody sees the candidate, and the gate cannot compare what it costs."""
    import httpx

    if target.admin is None:
        return Probe(name="metrics", status="skipped", text="no admin port was named")
    try:
        answer = client.get(f"{target.admin.rstrip('/')}/metrics")
    except httpx.HTTPError as error:
        return Probe(name="metrics", status="failed", text=f"the admin port does not answer: {error}")
    if answer.status_code != 200 or not answer.content:
        return Probe(name="metrics", status="failed", text=f"`/metrics` has status {answer.status_code}, expected 200")
    return Probe(name="metrics", status="ok", text="the admin port shows metrics")
