"""A good month before a game day, as Prometheus would have recorded it: without it every budget is spent at once."""

import time

RATE = 200.0
"""Requests a second, none of them bad."""


DAY_S = 86_400
EVALUATION_S = 30
WINDOW_S = 300


def good_month(service: str, slo: str, scale: float) -> str:
    """The series that long windows add up, as OpenMetrics: three days at every evaluation, thirty every 5 minutes."""
    now = time.time() - 10
    labels = f'{{slo="{slo}",service="{service}"}}'
    lines = []
    for window, step_s, days in (("1m", EVALUATION_S / scale, 3), ("5m", WINDOW_S / scale, 30)):
        count = int(days * DAY_S / scale / step_s)
        for name, value in (("total", RATE), ("bad", 0.0)):
            series = f"slipway:slo_{name}:rate{window}{labels}"
            lines += [f"{series} {value} {now - (count - place) * step_s:.3f}" for place in range(count)]
    return "\n".join([*lines, "# EOF", ""])


def week_ago(service: str, scale: float, usd_per_hour: float, rate: float) -> str:
    """What an inference cost at this hour of last week, as OpenMetrics."""
    times = [time.time() - 7 * DAY_S / scale - 60 + 2 * place for place in range(400)]
    cost = f'slipway_cost_usd_per_hour{{service="{service}",instance="old"}}'
    rows = f'slipway_inferences_total{{service="{service}",instance="old",model="score",result="ok"}}'
    lines = [f"{cost} {usd_per_hour} {at:.3f}" for at in times]
    lines += [f"{rows} {rate * (at - times[0]):.1f} {at:.3f}" for at in times]
    return "\n".join([*lines, "# EOF", ""])
