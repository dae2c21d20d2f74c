"""Asks the admin port of a live server for a swap, and follows it to its end.

It says nothing to a person (`swap` does) and starts nothing itself: the server swaps, also when nobody follows. The
invariant: an answer is believed only under the generation that the server gave to this very swap; whatever else the
port shows (an older rollout, a later one) is not taken for its outcome.

Bodies: POST /swap `{"target", "service"}` -> 202 `{"generation", "from", "to"}`, or a problem (RFC 9457);
GET /debug/rollout -> `{"kind", "phase", "generation", "outcome", "message", "from", "to"}`.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from slipway_bundle.errors import HostError, IntegrityError
from slipway_cli.errors import Told, ToldError, UnreachableError

REQUEST_S: Final = 10.0
"""How long one answer of the port may take; it never waits for the swap."""
POLL_S: Final = 0.2
"""Between two looks; a swap takes as long as a model takes to load, and the port has no event to wait for."""
REPLY_BYTES: Final = 1_048_576
"""No answer of the port is longer."""

_Reply = TypeVar("_Reply")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy of the environment could not reach the loopback of this machine."""


class SwapFailedError(IntegrityError):
    """The new version did not get ready; the old one serves on."""

    code = "swap_failed"


class SwapUnfinishedError(HostError):
    """How the swap ended was not seen: it takes too long, or the server stops."""

    code = "swap_unfinished"


class Accepted(Struct, frozen=True, rename={"from_": "from"}):
    """What the server has begun."""

    generation: int
    from_: str
    to: str


class Rollout(Struct, frozen=True, rename={"from_": "from"}):
    """How far it is; before the first rollout there is no kind, and the generation is 0."""

    kind: str | None
    phase: str
    generation: int
    outcome: str | None = None
    message: str = ""
    from_: str | None = None
    to: str | None = None


class _Problem(Struct):
    code: str
    detail: str
    hint: str | None = None


_accepted = msgspec.json.Decoder(Accepted)
_rollout = msgspec.json.Decoder(Rollout)
_problem = msgspec.json.Decoder(_Problem)


def request_swap(admin: str, target: str, service: str | None) -> Accepted:
    """Ask for the swap; returns as soon as the server has begun it.

    Args:
        admin: `http://host:port` of the admin port.
        target: A bundle's reference, or the absolute path of a folder, as the server finds it.
        service: Which of the served ones is replaced; None when there is one.

    Raises:
        UnreachableError: when no slipway answers there.
        ToldError: when the server refuses: exit status 1 when another swap runs, 2 when the target is wrong, else 3.
    """
    body = msgspec.json.encode({"target": target, "service": service})
    headers = {"content-type": "application/json", "x-slipway-admin": "1"}
    request = urllib.request.Request(f"{admin}/swap", body, headers, method="POST")  # noqa: S310 - http(s) only, by option
    return _decode(_send(request, REQUEST_S), _accepted, f"{admin}/swap")


def follow_swap(
    admin: str,
    accepted: Accepted,
    *,
    timeout_s: float,
    announce: Callable[[Rollout], None],
    pause: Callable[[float], None] = time.sleep,
) -> Rollout:
    """Look until the swap has ended, `timeout_s` at most.

    Args:
        admin: As in `request_swap`.
        accepted: What it gave.
        timeout_s: How long to look, seconds.
        announce: Told of each phase once.
        pause: Waits so many seconds.

    Returns:
        The rollout, done.

    Raises:
        SwapFailedError: when the old version serves on.
        SwapUnfinishedError: when it takes longer, the server stops, or something else was rolled out since.
        UnreachableError: when the server answers no more.
    """
    until = time.monotonic() + timeout_s
    phase = "waiting"
    while True:
        url = f"{admin}/debug/rollout"
        shown = _decode(_send(urllib.request.Request(url), REQUEST_S), _rollout, url)  # noqa: S310 - as above
        if shown.generation > accepted.generation:
            raise SwapUnfinishedError(
                f"the end of the swap was not seen: generation {shown.generation} is being rolled out already, "
                f"the swap's was {accepted.generation}",
                hint=f"{url} shows what is served now",
            )
        if shown.generation == accepted.generation:
            if shown.phase != phase:
                phase = shown.phase
                announce(shown)
            if shown.outcome is not None:
                return _ended(shown, accepted)
        if time.monotonic() >= until:
            raise SwapUnfinishedError(
                f"the swap is not over after {timeout_s:g} s: it is {phase}",
                hint=f"it goes on without this command; {url} shows how far it is",
            )
        pause(POLL_S)


def _ended(shown: Rollout, accepted: Accepted) -> Rollout:
    if shown.outcome == "done":
        return shown
    if shown.outcome == "failed":
        raise SwapFailedError(
            f"the swap failed: {shown.message}",
            hint=f"{accepted.from_} serves on, as before",
            target=accepted.to,
            serving=accepted.from_,
        )
    raise SwapUnfinishedError(f"the swap was given up: {shown.message or 'the server was told to stop'}")


def _send(request: urllib.request.Request, timeout_s: float) -> bytes:
    url = request.full_url
    try:
        with _direct.open(request, timeout=timeout_s) as answer:
            body: bytes = answer.read(REPLY_BYTES)
            return body
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, error.code, error.read(REPLY_BYTES)) from error
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(
            f"the admin port did not answer: {url}: {reason}",
            hint="`slipway serve` prints the address of its admin port; give it with `--admin`",
        ) from error


def _refused(url: str, status: int, body: bytes) -> ToldError | UnreachableError:
    """What an answer that is an error means here."""
    try:
        told = _problem.decode(body)
    except msgspec.MsgspecError:
        return UnreachableError(
            f"what answers there is no admin port that can swap: {url} answered {status} {_phrase(status)}",
            hint="`--admin` is the address that `slipway serve` prints for its metrics, without a path",
        )
    exits = {409: 1, 400: 2, 404: 2, 422: 2}
    return ToldError(Told(code=told.code, message=told.detail, hint=told.hint, exit_status=exits.get(status, 3)))


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _decode(body: bytes, decoder: msgspec.json.Decoder[_Reply], url: str) -> _Reply:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise UnreachableError(f"what answers there is no admin port of slipway: {url}: {error}") from error
