"""When drift has lasted: what Alertmanager says about a model's alerts, as episodes, and each of those as one event.

Pure: it takes bytes and `now`, and sends nothing (`hook` does). The invariants: an episode is one event however often
Alertmanager repeats itself; its `id` follows from the model and from when its first alert began, so a hook that was
started again gives the same; what only says that input is broken (`SlipwayFeatureDefects`) begins no episode, because a
model that is trained on broken input learns the fault.

A webhook is taken for everything that is to say about its models: the generated route groups by service, track and
model. An episode lasts while an alert that was part of it is in the next webhook, too.

Sources: Alertmanager, "Configuration", webhook_config (version 4); CloudEvents 1.0.2.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.errors import UsageError

__all__ = [
    "MAX_BYTES",
    "Alert",
    "Cause",
    "CloudEvent",
    "Drift",
    "Episodes",
    "Moved",
    "PayloadError",
    "Release",
    "decode_alerts",
]

TYPE: Final = "io.slipway.drift.sustained.v1"
CATEGORIES: Final = frozenset({"drift", "quality"})
DEFECTS: Final = "defects"
"""`statistic` of the alerts that say that input is broken."""

MAX_BYTES: Final = 1024 * 1024
"""Of one webhook; a model whose 50 inputs have an alert each sends about 80 kB."""

MAX_EPISODES: Final = 10_000
"""Remembered at once. The oldest is forgotten first; should it be told again, it has the same id."""


class PayloadError(UsageError):
    """What came is not an Alertmanager webhook."""

    code = "hook_payload"


class Release(Struct, frozen=True, kw_only=True):
    """A version of the service that is being served."""

    digest: str
    """Of its bundle; empty where a folder is served."""

    version: str


class Moved(Struct, frozen=True, kw_only=True):
    """An input, and how far it is from the training sample."""

    feature: str
    psi: float


class Cause(Struct, frozen=True, kw_only=True):
    """One firing alert."""

    alert: str
    since: datetime
    """When it began to fire."""

    statistic: str = ""
    """What `value` is: `psi`, `expected_accuracy`, `accuracy`, `defects`; empty for an alert of somebody else's."""

    value: float | None = None
    feature: str = ""
    """Of alerts about one input."""

    summary: str = ""
    description: str = ""
    runbook_url: str = ""
    query_url: str = ""
    """The expression in Prometheus."""


class Drift(Struct, frozen=True, kw_only=True):
    """What drifted: the data of the event."""

    service: str
    model: str
    track: str
    owner: str
    since: datetime
    """When the episode began."""

    releases: tuple[Release, ...]
    """Being served while it was judged; two of them during a rolling update."""

    features: tuple[Moved, ...]
    """The inputs that moved most, the furthest first."""

    causes: tuple[Cause, ...]
    """The alerts that fire, the oldest first."""

    defects: tuple[Cause, ...]
    """Alerts that input is broken. Where there are any, mend that first: training on it teaches the fault."""


class CloudEvent(Struct, frozen=True, kw_only=True):
    """A CloudEvent 1.0 in structured JSON."""

    id: str
    """Of the episode: equal ids are one episode."""

    source: str
    subject: str
    time: datetime
    """When the episode began."""

    data: Drift
    type: str = TYPE
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class Alert(Struct, frozen=True, rename={"starts_at": "startsAt", "generator_url": "generatorURL"}):
    """One alert of a webhook."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: Annotated[datetime, Meta(tz=True)]
    annotations: dict[str, str] = {}
    generator_url: str = ""

    @property
    def instance(self) -> "_Instance":
        """Which alert, and which time that it fires."""
        return tuple(sorted(self.labels.items())), self.starts_at

    @property
    def is_firing(self) -> bool:
        """Whether it has not ended."""
        return self.status == "firing"


class _Webhook(Struct, frozen=True):
    version: str
    alerts: tuple[Alert, ...]


class _Model(NamedTuple):
    """What an episode is about."""

    service: str
    track: str
    model: str


_Instance: TypeAlias = tuple[tuple[tuple[str, str], ...], datetime]


class _Episode(Struct):
    since: datetime
    alerts: frozenset[_Instance]
    """Firing at the last webhook."""

    is_told: bool = False


class Episodes:
    """The episodes that go on. Not thread-safe.

    Args:
        sustained: How long an episode must have lasted before it is an event.
    """

    def __init__(self, sustained: timedelta) -> None:
        self._sustained = sustained
        self._open: dict[_Model, _Episode] = {}

    def take(self, alerts: Iterable[Alert], now: datetime) -> tuple[CloudEvent, ...]:
        """The events that are due: of episodes that have lasted, and were not told. `told` says that one was.

        Args:
            alerts: Of one webhook; all that there are of each of its models.
            now: With a time zone.
        """
        by_model: dict[_Model, list[Alert]] = {}
        for alert in alerts:
            labels = alert.labels
            if labels.get("category") in CATEGORIES and labels.get("model"):
                model = _Model(labels.get("service", ""), labels.get("track", ""), labels["model"])
                by_model.setdefault(model, []).append(alert)
        return tuple(event for model, group in by_model.items() for event in self._take(model, group, now))

    def told(self, event: CloudEvent) -> None:
        """The event arrived: it is not due again."""
        episode = self._open.get(_Model(event.data.service, event.data.track, event.data.model))
        if episode is not None and episode.since == event.data.since:
            episode.is_told = True

    def _take(self, model: _Model, group: Sequence[Alert], now: datetime) -> Iterator[CloudEvent]:
        causes = [alert for alert in group if alert.annotations.get("statistic") != DEFECTS]
        firing = sorted((alert for alert in causes if alert.is_firing), key=lambda alert: alert.instance[::-1])
        episode = self._open.pop(model, None)
        if not firing:
            return
        if episode is None or episode.alerts.isdisjoint(alert.instance for alert in causes):
            episode = _Episode(firing[0].starts_at, frozenset())  # the end of an older one was not heard
        episode.alerts = frozenset(alert.instance for alert in firing)
        self._open[model] = episode
        if len(self._open) > MAX_EPISODES:
            del self._open[next(iter(self._open))]
        if not episode.is_told and now - episode.since >= self._sustained:
            broken = [alert for alert in group if alert.is_firing and alert not in causes]
            yield _event(model, episode.since, firing, broken)


def decode_alerts(payload: bytes) -> tuple[Alert, ...]:
    """The alerts of a webhook.

    Raises:
        PayloadError: It is too long, or not a webhook of version 4; the message names the field.
    """
    if len(payload) > MAX_BYTES:
        raise PayloadError(f"a webhook is too long: got {len(payload)} bytes, expected at most {MAX_BYTES}")
    try:
        webhook = msgspec.json.decode(payload, type=_Webhook)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"this is no webhook of Alertmanager: {error}") from error
    if webhook.version != "4":
        raise PayloadError(f"`$.version` of a webhook is {webhook.version!r}, expected '4'")
    return webhook.alerts


def _event(model: _Model, since: datetime, firing: Sequence[Alert], broken: Sequence[Alert]) -> CloudEvent:
    moved: dict[str, float] = {}
    for alert in firing:
        pairs = dict(_pairs(alert, "moved"))
        if alert.annotations.get("statistic") == "psi" and alert.labels.get("feature"):
            pairs[alert.labels["feature"]] = alert.annotations.get("value", "")
        for feature, text in pairs.items():
            if (psi := _number(text)) is not None:
                moved[feature] = max(psi, moved.get(feature, psi))
    releases = dict.fromkeys(pair for alert in firing for pair in _pairs(alert, "releases"))
    drift = Drift(
        service=model.service,
        model=model.model,
        track=model.track,
        owner=firing[0].labels.get("owner", ""),
        since=since,
        releases=tuple(Release(digest=digest, version=version) for digest, version in releases),
        features=tuple(
            Moved(feature=name, psi=psi) for name, psi in sorted(moved.items(), key=lambda one: (-one[1], one[0]))
        ),
        causes=tuple(map(_cause, firing)),
        defects=tuple(map(_cause, broken)),
    )
    episode = "\n".join((*model, since.isoformat()))
    return CloudEvent(
        id=hashlib.sha256(episode.encode()).hexdigest()[:32],
        source=f"slipway/{quote(model.service)}",
        subject="/".join(quote(part) for part in (model.service, model.track, model.model) if part),
        time=since,
        data=drift,
    )


def _cause(alert: Alert) -> Cause:
    words = alert.annotations
    return Cause(
        alert=alert.labels.get("alertname", ""),
        since=alert.starts_at,
        statistic=words.get("statistic", ""),
        value=_number(words.get("value", "")),
        feature=alert.labels.get("feature", ""),
        summary=words.get("summary", ""),
        description=words.get("description", ""),
        runbook_url=words.get("runbook_url", ""),
        query_url=alert.generator_url,
    )


def _pairs(alert: Alert, annotation: str) -> Iterator[tuple[str, str]]:
    """`income=0.31 contract=0.02` as pairs."""
    for part in alert.annotations.get(annotation, "").split():
        name, is_pair, value = part.rpartition("=")
        if is_pair:
            yield name, value


def _number(text: str) -> float | None:
    """A finite number; None for whatever else an annotation holds."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
