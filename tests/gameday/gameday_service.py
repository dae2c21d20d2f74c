"""The service that game days break: real processes that do what their rows and their configuration say.

`write_rehearsed` writes its folder; which part of it misbehaves is up to the drill, by what it asks and by what it does
to the processes. Its objective is over `/score`, the route of its users.
"""

from pathlib import Path

from serve_folders import train
from slo_files import AVAILABILITY, LATENCY, read

from slipway_signals.slo.model import ServiceSlos

SERVICE = '''"""Scores rows, asks a neighbour for features, and writes reports that take the processor."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from msgspec import Struct
from slipway_serve import Arrays, Service, Weights
from slipway_serve.upstream import Upstream, UpstreamFailed, UpstreamLimits, UpstreamTimeout, UpstreamUnavailable

LOAD_S = float(os.environ.get("REHEARSED_LOAD_S", "0"))
MEBIBYTE = 1024 * 1024
LARGE = 150 * MEBIBYTE
computed = []


class Row(Struct, frozen=True):
    """A number, and how much memory it takes to compute it."""

    tenure_days: float
    mean_charge: float
    mebibytes: float


class Answer(Struct, frozen=True):
    """The model's margin."""

    margin: float


class Order(Struct, frozen=True):
    """A row whose charge the neighbour knows."""

    tenure_days: float


class Priced(Struct, frozen=True):
    """The answer, and whether the neighbour was asked in vain."""

    margin: float
    is_default: bool


class Topic(Struct, frozen=True):
    """What a report is about."""

    tenure_days: float
    mean_charge: float
    items: float


class Neighbour(Struct, frozen=True):
    """Where the next service is, and how it is called."""

    url: str
    limits: UpstreamLimits = UpstreamLimits()


@asynccontextmanager
async def connect(settings: Neighbour) -> AsyncIterator[Upstream]:
    """The next service."""
    async with Upstream(settings.url, name="prices", limits=settings.limits) as upstream:
        yield upstream


service = Service("rehearsed")
score = service.model("score", Row, Answer, path="/score", slo="interactive")
report = service.model("report", Topic, Answer, path="/report", slo="batch")
neighbour = service.resource("neighbour", connect)


@score.compute
def scored(weights: Weights, batch: Arrays) -> Arrays:
    """Twice the tenure; the first batch of a process takes as long as its weights take to load."""
    if not computed:
        computed.append(True)
        time.sleep(LOAD_S)
    needed = int(np.asarray(batch["mebibytes"]).sum() * MEBIBYTE)
    if needed:
        room = np.ones(needed // 8)
        time.sleep(1.2 if needed > LARGE else 0.0)  # so that whoever looks at its memory once a second sees it
        del room
    return {"margin": np.asarray(batch["tenure_days"]) * 2}


@report.compute
def reported(weights: Weights, batch: Arrays) -> Arrays:
    """Sums in one go, as a library does that never lets go of the interpreter."""
    for items in np.asarray(batch["items"]):
        sum(range(int(items)))
    return {"margin": np.asarray(batch["tenure_days"]) * 2}


@service.endpoint("/predict", slo="interactive")
async def predict(order: Order) -> Priced:
    """With the neighbour's price, or without it."""
    try:
        await neighbour().get("/price")
        is_default = False
    except (UpstreamUnavailable, UpstreamFailed, UpstreamTimeout):
        is_default = True
    answer = await score(Row(order.tenure_days, 1.0, 0.0))
    return Priced(answer.margin, is_default)
'''

CONFIG = """entry = "rehearsed_service:service"

[bundle.models.score]
file = "model/model.ubj"
format = "xgboost"

[bundle.models.report]
file = "model/model.ubj"
format = "xgboost"
"""
NOBODY = '\n[runtime.resources.neighbour]\nurl = "http://127.0.0.1:9"\n'


def write_rehearsed(folder: Path, runtime: str) -> Path:
    """The service's folder, with these `[runtime]` tables; returns the folder."""
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "rehearsed_service.py").write_text(SERVICE)
    resources = "" if "[runtime.resources.neighbour" in runtime else NOBODY
    (folder / "slipway.toml").write_text(CONFIG + runtime + resources)
    return folder


def promises(service: str, route: str, *, under_ms: int | None = None) -> ServiceSlos:
    """99 % of the calls of a route are answered or, with `under_ms`, answered within that time."""
    only = f'http_route="{route}"'
    text = AVAILABILITY if under_ms is None else LATENCY.replace('le="0.05"', f'le="{under_ms / 1_000:g}"')
    text = text.replace("_count{", f"_count{{{only},").replace("_count'", f"_count{{{only}}}'")
    text = text.replace("_bucket{", f"_bucket{{{only},").replace("target: 0.999", "target: 0.99")
    return read(text.replace("churn", service))


def score(mebibytes: float = 0.0) -> tuple[str, dict[str, object]]:
    """A call of `/score`."""
    return "/score", {"tenure_days": 4.0, "mean_charge": 1.0, "mebibytes": mebibytes}
