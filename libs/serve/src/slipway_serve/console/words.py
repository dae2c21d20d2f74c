"""Numbers and times as the person on call reads them: few digits, always a unit, always UTC."""

import math
from datetime import UTC, datetime
from typing import Final

from slipway_serve.page_markup import Html, el

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400


def ratio_text(ratio: float | None) -> str:
    """A share in per cent, two significant digits below 10 %: `0.1 %`, `48 %`; `unknown` for None and NaN."""
    if ratio is None or not math.isfinite(ratio):
        return "unknown"
    percent = ratio * 100
    if percent == 0 or abs(percent) >= 10:
        return f"{percent:,.0f} %"
    return f"{float(f'{percent:.2g}'):g} %"


def number_text(value: float | None) -> str:
    """Three significant digits: `14.4`, `0.02`, `1,250`; `unknown` for None and NaN."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"


def span_text(seconds: float) -> str:
    """A length of time in its two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    units = (("d", DAY_S), ("h", HOUR_S), ("min", MINUTE_S), ("s", 1))
    parts: list[tuple[int, str]] = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append((count, name))
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count) or "0 s"


def clock_text(at: float, now: float) -> str:
    """`12:03:05 UTC`, with the date when it is not the day of `now`; both in Unix seconds."""
    moment = datetime.fromtimestamp(at, UTC)
    is_today = moment.date() == datetime.fromtimestamp(now, UTC).date()
    return moment.strftime("%H:%M:%S UTC" if is_today else "%Y-%m-%d %H:%M UTC")


def since_words(at: float, now: float) -> list[Html | str]:
    """How long ago, and when: `3 min 20 s (12:03:05 UTC)`."""
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return [
        el("strong", span_text(now - at)),
        " ",
        el("time", f"({clock_text(at, now)})", datetime=iso, class_="quiet"),
    ]


def joined(names: list[str]) -> str:
    """`churn`, `churn and documents`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def sentence(text: str) -> str:
    """With a capital at the beginning."""
    return text[:1].upper() + text[1:]
