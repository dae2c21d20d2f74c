"""The errors of calling another service; `upstream.py` raises them, `problems.py` maps them to statuses.

No HTTP client is imported here. The invariant: a handler that awaits an upstream gets the upstream's answer or one of
these, and each says which service it was.

    HostError
    ├── UpstreamUnavailable   upstream_unavailable   not asked: its circuit breaker is open
    ├── UpstreamFailed        upstream_failed        asked, and no usable answer: no connection, 429, or 5xx
    └── UpstreamTimeout       upstream_timeout       no answer by the deadline
"""

from slipway_bundle import HostError

__all__ = ["UpstreamFailed", "UpstreamTimeout", "UpstreamUnavailable"]


class UpstreamUnavailable(HostError):
    """Too many of the last requests to this service failed, so it is not asked for a moment; nothing was sent.

    `retry_after_s` is the time in seconds until a request may be tried.
    """

    code = "upstream_unavailable"

    def __init__(self, upstream: str, retry_after_s: float) -> None:
        super().__init__(
            f"service {upstream!r} was not asked: too many of the last requests to it failed",
            hint=f"it is tried again in {retry_after_s:.3f} s; look at its own log and metrics",
            upstream=upstream,
            retry_after_s=retry_after_s,
        )
        self.upstream = upstream
        self.retry_after_s = retry_after_s


class UpstreamFailed(HostError):
    """The service was asked and gave no usable answer; `status` is None when it gave none at all.

    `retry_after_s` is what it said itself, in seconds, or None.
    """

    code = "upstream_failed"

    def __init__(
        self, upstream: str, reason: str, *, sent: int, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(
            f"service {upstream!r} failed: {reason}, after {sent} request{'' if sent == 1 else 's'}",
            hint=None if retry_after_s is None else f"it asks to be left alone for {retry_after_s:g} s",
            upstream=upstream,
            status=status,
            retry_after_s=retry_after_s,
        )
        self.upstream = upstream
        self.status = status
        self.retry_after_s = retry_after_s


class UpstreamTimeout(HostError):
    """The deadline passed before the service had answered; `waited_s` is how long was waited, over all tries."""

    code = "upstream_timeout"

    def __init__(self, upstream: str, waited_s: float) -> None:
        super().__init__(
            f"service {upstream!r} did not answer before the deadline: waited {waited_s:.3f} s",
            upstream=upstream,
            waited_s=waited_s,
        )
        self.upstream = upstream
        self.waited_s = waited_s
