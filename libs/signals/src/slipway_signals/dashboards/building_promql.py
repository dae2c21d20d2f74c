"""The few forms of PromQL that panels are made of: rates, counts, shares, means and quantiles.

Text only. The invariant: what is divided by is never 0, so an idle hour is a gap and no NaN.
"""

__all__ = ["count_of", "mean", "quantile", "rate", "share"]

STEP = "$__rate_interval"
"""As short as the scrapes and the screen allow; Grafana and `reading.substitute` fill it in."""


def rate(selector: str, *by: str, window: str = STEP, offset: str = "") -> str:
    """Events a second, summed by the labels `by`."""
    return f"sum{_by(by)} (rate({selector}[{window}]{offset}))"


def count_of(selector: str, *by: str, window: str = "1h") -> str:
    """Events in the window, summed by the labels `by`."""
    return f"sum{_by(by)} (increase({selector}[{window}]))"


def share(part: str, whole: str, *on: str) -> str:
    """`part / whole`, absent where the whole is 0; with `on`, the part has further labels."""
    joined = f"on ({', '.join(on)}) group_left () " if on else ""
    return f"({part}) / {joined}(({whole}) > 0)"


def mean(histogram: str, labels: str, *by: str) -> str:
    """The mean of what was observed.

    Args:
        histogram: Its name, without ending.
        labels: Matchers, without braces.
        by: Labels.
    """
    return share(rate(f"{histogram}_sum{{{labels}}}", *by), rate(f"{histogram}_count{{{labels}}}", *by))


def quantile(q: float, histogram: str, labels: str, *by: str) -> str:
    """The value below which the share `q` of what was observed lies; absent where nothing was observed."""
    buckets = rate(f"{histogram}_bucket{{{labels}}}", "le", *by)
    called = rate(f"{histogram}_count{{{labels}}}", *by)
    return f"histogram_quantile({q}, {buckets}) and {'on (' + ', '.join(by) + ') ' if by else 'on () '}{called} > 0"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
