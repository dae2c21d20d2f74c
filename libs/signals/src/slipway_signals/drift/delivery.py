"""One CloudEvent to whatever starts a training: an HTTP POST, again after the receiver's bad moments.

It remembers nothing. The invariants: the token goes to the given address only (a redirect is a refusal), and neither it
nor more of the URL than scheme and host is ever in a message.

Source: CloudEvents 1.0.2, HTTP protocol binding, 3.2.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from slipway_bundle.errors import HostError, UsageError
from slipway_signals.drift.episodes import CloudEvent

__all__ = ["CONTENT_TYPE", "PAUSES_S", "AddressError", "DeliveryError", "check_url", "post"]

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
PAUSES_S: Final = (0.5, 2.0, 8.0)
"""Before each further attempt; Alertmanager itself comes again when this gives up."""

TIMEOUT_S: Final = 10.0


class AddressError(UsageError):
    """An event cannot be sent to such a URL, or with such a token."""

    code = "hook_address"


class DeliveryError(HostError):
    """The receiver of the event cannot be reached, or refuses it."""

    code = "hook_undelivered"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: the token is not for wherever it leads."""

    def redirect_request(self, *_: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def check_url(url: str) -> None:
    """Judge where events shall go.

    Raises:
        AddressError: It is not an http or https URL with a host, or has a user in it.
    """
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        is_right = is_right and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        is_right = False
    if not is_right:
        raise AddressError(
            f"events cannot go to {_without_secrets(url)!r}: expected an http or https URL with a host and no user",
            hint="a token goes into its own file or variable",
        )


def post(
    event: CloudEvent,
    url: str,
    *,
    token: str = "",
    pauses_s: Sequence[float] = PAUSES_S,
    wait: Callable[[float], object] = time.sleep,
) -> int:
    """Sends one event; blocks up to the pauses and 10 s an attempt. Gives the status of the answer.

    Args:
        event: What to send.
        url: Where to, http or https.
        token: Sent as `Authorization: Bearer …`; empty: none.
        pauses_s: Before each further attempt, after 408, 429, 5xx or no answer.
        wait: Lets a pause pass; when it gives something true, there is no further attempt.

    Raises:
        AddressError: Of the URL or the token.
        DeliveryError: The receiver refused it (3xx, 4xx), or did not take it in any attempt.
    """
    check_url(url)
    headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "slipway-drift-hook"}
    if token:
        if not (token.isascii() and token.isprintable()):
            raise AddressError(f"the token has characters that no header can carry: got {len(token)} characters")
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=msgspec.json.encode(event), headers=headers, method="POST")  # noqa: S310
    last = "no answer"
    for pause in (0.0, *pauses_s):
        if pause and wait(pause):
            break
        try:
            with _opener.open(request, timeout=TIMEOUT_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code not in {408, 429}:
                break
        except (OSError, http.client.HTTPException) as error:
            last = str(getattr(error, "reason", None) or error) or type(error).__name__
    raise DeliveryError(
        f"the drift of {event.subject!r} was not taken by {_without_secrets(url)}: {last}",
        hint="Alertmanager sends the alert again",
    )


def _without_secrets(url: str) -> str:
    """Scheme and host: a token may stand anywhere else in a webhook's URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    return f"{parts.scheme}://{parts.hostname or ''}"
