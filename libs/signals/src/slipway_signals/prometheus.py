"""Ask a Prometheus: samples, series, alerts, values of labels, exemplars.

It only reads, and judges nothing: a NaN stays a NaN, and no series is an empty list. Every question ends: what has not
come after twice `timeout_s`, or is larger than `ANSWER_BYTES`, is an error. Between two questions no connection is
held, so there is nothing to close, and threads may share one `Prometheus`.

API: https://prometheus.io/docs/prometheus/2.42/querying/api/
"""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from slipway_bundle import HostError

if TYPE_CHECKING:
    import httpx

__all__ = ["ActiveAlert", "Exemplar", "Prometheus", "PrometheusError", "Sample", "Series"]

T = TypeVar("T")

ANSWER_BYTES = 64 * 1024 * 1024


class PrometheusError(HostError):
    """Prometheus cannot be reached in time, refuses the question, or what answers is no Prometheus."""

    code = "prometheus"


class Sample(Struct, frozen=True):
    """One value of an instant query."""

    labels: dict[str, str]
    """`__name__` among them, where the query kept it."""

    value: float
    """May be NaN or infinite."""


class Series(Struct, frozen=True):
    """One line of a range query."""

    labels: dict[str, str]
    """`__name__` among them, where the query kept it."""

    points: tuple[tuple[float, float], ...]
    """Unix seconds and value, in order of time; a step without a value is left out, a NaN is not."""


class ActiveAlert(Struct, frozen=True, kw_only=True):
    """An alert that is pending or fires, as Prometheus sees it: before routes, silences and inhibition."""

    name: str
    labels: dict[str, str]
    """`alertname` among them."""

    annotations: dict[str, str]
    state: str
    """`pending` or `firing`."""

    since: float
    """Unix seconds since when its condition holds."""

    value: float


class Exemplar(Struct, frozen=True, kw_only=True):
    """One request that a series was counted from."""

    series: dict[str, str]
    labels: dict[str, str]
    """`trace_id` and `span_id`."""

    value: float
    at: float
    """Unix seconds."""


class Prometheus:
    """One Prometheus; nothing is asked before the first question.

    Args:
        url: `http://127.0.0.1:9090`, with the path it is served below, if any.
        timeout_s: How long a connection, and each part of an answer, may take; Prometheus is told the same.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._client: httpx.Client | None = None

    def instant(self, promql: str, at: float | None = None) -> list[Sample]:
        """Values at `at` (Unix seconds; None: now). A scalar is one sample without labels.

        Raises:
            PrometheusError: not reachable, or the query is wrong, or it gives a range or a string.
        """
        when = {} if at is None else {"time": f"{at:.3f}"}
        data = self._ask("query", {"query": promql, "timeout": f"{self.timeout_s:g}s", **when}, _Result)
        match data.result_type:
            case "vector":
                vector = self._decode(data.result, list[_Instant])
                return [Sample(one.metric, self._number(one.value[1])) for one in vector]
            case "scalar":
                return [Sample({}, self._number(self._decode(data.result, tuple[float, str])[1]))]
            case other:
                raise PrometheusError(f"{promql!r} gives a {other}, expected a value for each series")

    def range(self, promql: str, start: float, end: float, step_s: float) -> list[Series]:
        """Lines from `start` to `end` (Unix seconds, both included), a point each `step_s`; at most 11,000 points each.

        Raises:
            PrometheusError: not reachable, or the query or the range is wrong.
        """
        asked = {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:.3f}"}
        data = self._ask("query_range", {**asked, "timeout": f"{self.timeout_s:g}s"}, _Result)
        matrix = self._decode(data.result, list[_Range])
        return [Series(one.metric, tuple((at, self._number(value)) for at, value in one.values)) for one in matrix]

    def alerts(self) -> list[ActiveAlert]:
        """Every alert that is pending or fires, the longest first."""
        found = self._ask("alerts", {}, _Alerts, method="GET").alerts
        alerts = [
            ActiveAlert(
                name=one.labels.get("alertname", ""),
                labels=one.labels,
                annotations=one.annotations,
                state=one.state,
                since=one.active_at.timestamp(),
                value=self._number(one.value),
            )
            for one in found
        ]
        return sorted(alerts, key=lambda one: (one.since, one.name, sorted(one.labels.items())))

    def label_values(self, label: str, match: str) -> list[str]:
        """Values of `label` in the series that the selector `match` chooses, sorted.

        Raises:
            PrometheusError: not reachable, or `match` is no selector.
        """
        return self._ask(f"label/{label}/values", {"match[]": match}, list[str], method="GET")

    def exemplars(self, promql: str, start: float, end: float) -> list[Exemplar]:
        """Exemplars of the series in `promql`, oldest first; none where Prometheus does not store them."""
        found = self._ask(
            "query_exemplars", {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}"}, list[_Exemplars]
        )
        exemplars = [
            Exemplar(series=one.series_labels, labels=it.labels, value=self._number(it.value), at=it.timestamp)
            for one in found
            for it in one.exemplars
        ]
        return sorted(exemplars, key=lambda one: one.at)

    def _ask(self, path: str, asked: Mapping[str, str], kind: type[T], *, method: str = "POST") -> T:
        body = self._call(path, asked, method)
        answer = self._decode(body, _Envelope)
        if answer.status != "success":
            raise PrometheusError(
                f"Prometheus at {self.url} refuses {asked.get('query', asked.get('match[]', path))!r}: {answer.error}",
                hint="try the query on its /graph page",
                url=self.url,
                reason=answer.error,
            )
        return self._decode(answer.data, kind)

    def _call(self, path: str, asked: Mapping[str, str], method: str) -> bytes:
        import httpx  # 60 ms, which only those pay who ask

        if self._client is None:
            self._client = httpx.Client(timeout=self.timeout_s, limits=httpx.Limits(max_keepalive_connections=0))
        where = {"params": asked} if method == "GET" else {"data": asked}
        ends, parts, size = time.monotonic() + 2 * self.timeout_s, [], 0
        try:
            with self._client.stream(method, f"{self.url}/api/v1/{path}", **where) as reply:  # type: ignore[arg-type]  # one of two keywords
                for part in reply.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > ANSWER_BYTES or time.monotonic() > ends:
                        raise self._failed("its answer does not end")
        except httpx.TimeoutException as error:
            raise self._failed(f"no answer within {self.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._failed(str(error) or type(error).__name__) from error
        return b"".join(parts)

    def _decode(self, body: bytes | msgspec.Raw, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._failed(f"what answers there is no Prometheus ({error})") from error

    def _number(self, text: str) -> float:
        try:
            return float(text)
        except ValueError as error:
            raise self._failed(f"what answers there is no Prometheus (a value is {text!r})") from error

    def _failed(self, reason: str) -> PrometheusError:
        return PrometheusError(
            f"cannot ask Prometheus at {self.url}: {reason}",
            hint="is it running, and is the address right?",
            url=self.url,
            reason=reason,
        )


class _Envelope(Struct, frozen=True):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


class _Result(Struct, frozen=True, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Instant(Struct, frozen=True):
    metric: dict[str, str]
    value: tuple[float, str]


class _Range(Struct, frozen=True):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Alert(Struct, frozen=True, rename="camel"):
    labels: dict[str, str]
    annotations: dict[str, str]
    state: str
    active_at: datetime
    value: str


class _Alerts(Struct, frozen=True):
    alerts: list[_Alert]


class _ExemplarPoint(Struct, frozen=True):
    labels: dict[str, str]
    value: str
    timestamp: float


class _Exemplars(Struct, frozen=True, rename="camel"):
    series_labels: dict[str, str]
    exemplars: list[_ExemplarPoint]
