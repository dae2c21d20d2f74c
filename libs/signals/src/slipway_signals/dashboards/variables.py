"""Put values into a dashboard's queries and legends.

The invariant: no value can end the string that it stands in.
Source: https://grafana.com/docs/grafana/latest/dashboards/variables/variable-syntax/ and
https://grafana.com/docs/grafana/latest/datasources/prometheus/template-variables/ for `$__rate_interval`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from slipway_bundle import UsageError

__all__ = ["DashboardError", "legend_text", "substitute"]

SCRAPES: Final = 4
"""A rate looks at no fewer scrapes than these: one that fails must not empty it."""

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::(\w+))?\}|([a-zA-Z_]\w*))")
"""`$1` is none: it is what `label_replace` has found."""
_LEGEND: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class DashboardError(UsageError):
    """A dashboard cannot be understood, or a query names a variable that has no value."""

    code = "dashboard_invalid"


def substitute(
    expr: str,
    values: Mapping[str, Sequence[str]],
    *,
    interval_s: float,
    range_s: float,
    scrape_s: float,
) -> str:
    """`expr` with its variables filled in: `$name`, `${name}`, `${name:regex}` and Grafana's own intervals.

    Within `=~"…"` a value is escaped as an expression, several become `(a|b)`, none is `.*`; elsewhere it stands as
    text. No value can end the string it stands in.

    Args:
        expr: PromQL, or the selector of a variable.
        values: By variable; an empty sequence stands for all.
        interval_s: Seconds between two points, `$__interval`.
        range_s: Seconds that are looked at, `$__range`.
        scrape_s: Seconds between two scrapes, for `$__rate_interval`.

    Raises:
        DashboardError: A variable has no value, or several where one is needed.
    """
    own = {
        "__interval": _duration(interval_s),
        "__range": _duration(range_s),
        "__rate_interval": _duration(max(interval_s + scrape_s, SCRAPES * scrape_s)),
        "__range_s": f"{range_s:g}",
        "__interval_ms": f"{interval_s * 1000:g}",
    }

    def put(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name in own:
            return own[name]
        if name not in values:
            there = ", ".join(sorted({*values, *own}))
            raise DashboardError(f"no value for ${name} in {expr!r}, expected one of {there}")
        is_pattern = found[2] == "regex" or _is_pattern(expr[: found.start()])
        chosen = tuple(values[name])
        if not is_pattern:
            if len(chosen) != 1:
                raise DashboardError(f"${name} in {expr!r} needs one value, got {len(chosen)}")
            return _quoted(chosen[0])
        if not chosen:
            return ".*"
        patterns = [_quoted(re.sub(r"[\\^$.*+?()\[\]{}|]", r"\\\g<0>", one)) for one in chosen]
        return patterns[0] if len(patterns) == 1 else f"({'|'.join(patterns)})"

    return _VARIABLE.sub(put, expr)


def legend_text(legend: str, labels: Mapping[str, str]) -> str:
    """What a series is called: `{{label}}` becomes its value, or nothing where the series has no such label."""
    return _LEGEND.sub(lambda found: labels.get(found[1], ""), legend).strip()


def _is_pattern(before: str) -> bool:
    """Whether what comes next stands in a string after `=~` or `!~`."""
    quote = before.rfind('"')
    return quote > 0 and before[:quote].rstrip().endswith(("=~", "!~"))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _duration(seconds: float) -> str:
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
