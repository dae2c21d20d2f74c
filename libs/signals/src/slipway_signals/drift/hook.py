"""The retraining hook: what Alertmanager says about sustained drift, as one CloudEvent for whatever starts a training.

Alertmanager sends its webhook here; what leaves is a CloudEvent 1.0 in structured JSON over HTTP, which Argo Events,
Knative, EventBridge and CI systems take. It decides nothing: an alert about drift has been significant, material and
persistent before it is sent. The invariants: the same episode of an alert has the same `id`, so a receiver that forgets
doubles starts one training; a resolved alert starts none.

Sources: Alertmanager, "Configuration", webhook_config (version 4); CloudEvents 1.0.2, HTTP protocol binding.
"""

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from slipway_bundle.errors import HostError, UsageError

__all__ = ["CONTENT_TYPE", "CloudEvent", "Drift", "HookError", "PayloadError", "events_of", "post"]

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
TYPE: Final = "io.slipway.drift.sustained.v1"
CATEGORIES: Final = frozenset({"drift", "quality"})
PAUSES_S: Final = (0.5, 2.0, 8.0)
"""Before each further attempt; Alertmanager itself comes again when this gives up."""

TIMEOUT_S: Final = 10.0
MAX_BYTES: Final = 4 * 2**20


class PayloadError(UsageError):
    """What came is not an Alertmanager webhook."""

    code = "hook_payload"


class HookError(HostError):
    """The receiver of the event cannot be reached, or refuses it."""

    code = "hook_undelivered"


class Drift(Struct, frozen=True, kw_only=True):
    """What drifted: the data of the event."""

    service: str
    model: str
    alert: str
    owner: str = ""
    track: str = ""
    feature: str = ""
    """Of alerts about one input."""

    summary: str = ""
    description: str = ""
    runbook_url: str = ""
    query_url: str = ""
    """The expression in Prometheus."""


class CloudEvent(Struct, frozen=True, kw_only=True):
    """A CloudEvent 1.0 in structured JSON."""

    id: str
    """Of the episode: service, alert, model and when it began."""

    source: str
    subject: str
    time: str
    """When the alert began to fire, RFC 3339."""

    data: Drift
    type: str = TYPE
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class _Alert(Struct, frozen=True, rename={"starts_at": "startsAt", "generator_url": "generatorURL"}):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = ""
    generator_url: str = ""


class _Webhook(Struct, frozen=True):
    version: str
    alerts: tuple[_Alert, ...]


def events_of(payload: bytes) -> tuple[CloudEvent, ...]:
    """The events that a webhook of Alertmanager calls for: one for each firing alert about drift or quality of a model.

    Raises:
        PayloadError: It is too long, or not a webhook of version 4.
    """
    if len(payload) > MAX_BYTES:
        raise PayloadError(f"a webhook is too long: got {len(payload)} bytes, expected at most {MAX_BYTES}")
    try:
        webhook = msgspec.json.decode(payload, type=_Webhook)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PayloadError(f"this is no webhook of Alertmanager: {error}") from error
    if webhook.version != "4":
        raise PayloadError(f"a webhook of Alertmanager has version {webhook.version!r}, expected '4'")
    return tuple(_event(alert) for alert in webhook.alerts if _is_drift(alert))


def post(
    event: CloudEvent,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    pauses_s: Sequence[float] = PAUSES_S,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Sends one event; blocks up to the pauses and 10 s an attempt. Gives the status of the answer.

    Args:
        event: What to send.
        url: Where to, http or https.
        headers: Further ones, such as Authorization.
        pauses_s: Before each further attempt, after 408, 429, 5xx or no answer.
        wait: Lets a pause pass.

    Raises:
        HookError: The receiver refused it (4xx), or did not take it in any attempt.
        PayloadError: The URL is neither http nor https.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise PayloadError(f"an event goes to an http or https URL, got {url!r}")
    body = msgspec.json.encode(event)
    request = urllib.request.Request(  # noqa: S310  # the scheme was checked
        url, data=body, headers={**(headers or {}), "Content-Type": CONTENT_TYPE}, method="POST"
    )
    last = "no answer"
    for pause in (0.0, *pauses_s):
        if pause:
            wait(pause)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  # as above
                return int(answer.status)
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code not in {408, 429}:
                break
        except OSError as error:
            last = str(getattr(error, "reason", None) or error)
    raise HookError(
        f"the drift of {event.subject!r} was not taken by {_without_secrets(url)}: {last}",
        hint="Alertmanager sends the alert again after its `repeat_interval`",
    )


def _is_drift(alert: _Alert) -> bool:
    labels = alert.labels
    return alert.status == "firing" and labels.get("category") in CATEGORIES and bool(labels.get("model"))


def _event(alert: _Alert) -> CloudEvent:
    labels, words = alert.labels, alert.annotations
    named = {name: labels.get(name, "") for name in ("service", "model", "owner", "track", "feature")}
    drift = Drift(
        alert=labels.get("alertname", ""),
        summary=words.get("summary", ""),
        description=words.get("description", ""),
        runbook_url=words.get("runbook_url", ""),
        query_url=alert.generator_url,
        **named,
    )
    episode = "\n".join((drift.alert, *(named[name] for name in sorted(named)), alert.starts_at))
    return CloudEvent(
        id=hashlib.sha256(episode.encode()).hexdigest()[:32],
        source=f"slipway/{drift.service}",
        subject=f"{drift.service}/{drift.model}" + (f"/{drift.feature}" if drift.feature else ""),
        time=alert.starts_at,
        data=drift,
    )


def _without_secrets(url: str) -> str:
    """Scheme and host: a token may stand anywhere else in a webhook's URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
