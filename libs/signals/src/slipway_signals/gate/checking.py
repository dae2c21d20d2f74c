"""What is asked of both arms before any traffic: is the interface compatible, do the golden examples replay?

It judges no load. The invariant: it asks each arm as often as there are golden examples, one after the other, marked as
synthetic; an arm that cannot be asked has failed, and is never skipped in silence.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from slipway_bundle.compatibility import compare_contracts, contract_of_openapi
from slipway_bundle.errors import FileError, HostError, UsageError
from slipway_bundle.golden import Golden, compare, decode_golden
from slipway_signals.gate.load_plan import LoadPlan, Target
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.records import ARMS, Arm
from slipway_signals.gate.verdict import Check

if TYPE_CHECKING:
    import httpx

__all__ = ["ArmUnreachableError", "check_compatible", "check_golden", "read_golden"]

TIMEOUT_S: Final = 10.0
SHOWN: Final = 5

SYNTHETIC: Final = "X-Slipway-Synthetic"
BUNDLE: Final = "X-Slipway-Bundle"


class ArmUnreachableError(HostError):
    """An arm does not answer, before anything was compared."""

    code = "arm_unreachable"


def check_compatible(load: LoadPlan, environ: Mapping[str, str]) -> Check:
    """Whether the candidate's interface can take the place of stable's, by what both say at `/openapi.json`.

    Raises:
        ArmUnreachableError: One does not answer.
    """
    contracts = []
    for arm in ARMS:
        status, document = _document(arm, load, environ)
        if document is None:
            text = f"{arm} does not show its interface: `/openapi.json` has status {status}"
            return Check(name="compatibility", status="skipped", text=text)
        try:
            contracts.append(contract_of_openapi(document))
        except UsageError as error:
            return Check(name="compatibility", status="skipped", text=f"{arm}: {error.message}")
    try:
        found = compare_contracts(*contracts)
    except UsageError as error:
        return Check(name="compatibility", arm="candidate", status="failed", text=error.message)
    breaking = [
        f"{one.where} {one.field}: {one.what} was {one.before}, is {one.after}"
        for one in found.findings
        if one.is_breaking
    ]
    if found.is_compatible:
        text = f"{found.after} can take the place of {found.before}"
        return Check(name="compatibility", arm="candidate", status="ok", text=text, details=tuple(breaking))
    text = f"{found.after} breaks callers of {found.before} without a new major version: {breaking[0]}"
    return Check(name="compatibility", arm="candidate", status="failed", text=text, details=tuple(breaking[:SHOWN]))


def _document(arm: Arm, load: LoadPlan, environ: Mapping[str, str]) -> tuple[int, object | None]:
    import httpx

    target = load.arms[arm]
    if target.url.startswith("grpc"):
        return 0, None
    try:
        answer = httpx.get(
            f"{target.url.rstrip('/')}/openapi.json", headers=_headers(target, environ), timeout=TIMEOUT_S
        )
    except httpx.HTTPError as error:
        raise ArmUnreachableError(
            f"{arm} at {target.url} does not answer: {error or type(error).__name__}",
            hint="start it first; the gate compares two servers that are up",
            arm=arm,
        ) from error
    if answer.status_code != httpx.codes.OK:
        return answer.status_code, None
    try:
        return answer.status_code, msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        return answer.status_code, None


def read_golden(path: Path) -> tuple[Golden, ...]:
    """The examples of a file.

    Raises:
        FileError: It cannot be read.
        GoldenError: A line is no example.
    """
    try:
        return decode_golden(path.read_bytes(), where=str(path))
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error


def check_golden(
    plan: GatePlan, examples: Mapping[Arm, Sequence[Golden]], environ: Mapping[str, str]
) -> tuple[Check, ...]:
    """Replay each arm's golden examples against it; blocks up to 10 s an example.

    Args:
        plan: For the addresses and the endpoints.
        examples: Of each arm: of the bundle that it should be. An arm without any is skipped, and that is said.
        environ: Where the keys are that the plan names.
    """
    import httpx

    if plan.load is None:
        return ()
    found = []
    for arm in ARMS:
        target, golden = plan.load.arms.get(arm), examples.get(arm, ())
        if not golden or target is None or plan.load.protocol == "grpc":
            why = "no golden examples were given" if not golden else "golden examples are asked over HTTP only"
            found.append(Check(name="golden", arm=arm, status="skipped", text=f"{arm}: {why}"))
            continue
        with httpx.Client(base_url=target.url, headers=_headers(target, environ), timeout=TIMEOUT_S) as client:
            found += _replayed(arm, plan, plan.load, golden, client)
    return tuple(found)


def _replayed(
    arm: Arm, plan: GatePlan, load: LoadPlan, golden: Sequence[Golden], client: "httpx.Client"
) -> list[Check]:
    wrong = []
    digests = set()
    for number, example in enumerate(golden, start=1):
        said, problem = _ask(client, _path_of(load, example), example)
        digests.add(said)
        if problem is not None:
            wrong.append(f"golden example {number} of {example.model!r}: {problem}")
    text = f"{len(golden) - len(wrong)} of {len(golden)} golden examples replay on {arm}"
    if wrong:
        text += f": {wrong[0]}"
    details = tuple(wrong[:SHOWN])
    checks = [Check(name="golden", arm=arm, status="failed" if wrong else "ok", text=text, details=details)]
    wanted = plan.digests.get(arm)
    if plan.identity == "required" and wanted is not None:
        others = sorted(digests - {wanted})
        text = f"{arm} is {wanted}" if not others else f"{arm} says {others[0] or 'nothing'}, expected {wanted}"
        checks.append(Check(name="identity", arm=arm, status="failed" if others else "ok", text=text))
    return checks


def _ask(client: "httpx.Client", path: str, example: Golden) -> tuple[str, str | None]:
    """Who answered, and what is wrong with the answer."""
    import httpx

    try:
        answer = client.post(path, content=bytes(example.input))
    except httpx.HTTPError as error:
        return "", f"no answer: {error or type(error).__name__}"
    said = answer.headers.get(BUNDLE, "")
    if answer.status_code != httpx.codes.OK:
        return said, f"got status {answer.status_code}, expected 200"
    try:
        got = msgspec.json.decode(answer.content)
    except msgspec.DecodeError as error:
        return said, f"the answer is no JSON: {error}"
    different = compare(got, msgspec.json.decode(example.output), example.tolerance)
    if different is None:
        return said, None
    where, found, expected = different
    return said, f"`{where}` got {found}, expected {expected}"


def _path_of(load: LoadPlan, example: Golden) -> str:
    """The scenario of the example's model, or the first: a service with one endpoint names none."""
    return next((one.path for one in load.scenarios if one.model == example.model), load.scenarios[0].path)


def _headers(target: Target, environ: Mapping[str, str]) -> dict[str, str]:
    headers = {"Content-Type": "application/json", SYNTHETIC: "1"}
    if target.key_env is not None and target.key_env in environ:
        headers["Authorization"] = f"Bearer {environ[target.key_env]}"
    return headers
