"""Two services under load, as a company watches them: real servers, a real Prometheus and a real Alertmanager.

churn is served twice, as stable and as canary, with traces, capture, drift, labels and a cost; moody fails as it is
told: rows that raise or kill, slow answers, a neighbour that refuses. What cannot run here (pods, a GPU) is a page of
text, recorded from their exporters. An hour takes two minutes.

Nothing here judges. The load goes on until the tests are over, a few dozen requests a second.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import tritonclient.grpc as triton  # type: ignore[import-untyped]  # the package has no types
from alert_faults import address_of, environment_of, moody_slos, row, traffic, wish, write_moody
from alert_stack import AlertStack, metrics_page
from msgspec import Struct
from otlp_sink import collector
from serve_process import Served, serving
from trained_churn import CHURN, trained_churn, training
from upstream_servers import Reply, neighbour

from slipway_signals.prometheus import Prometheus
from slipway_signals.slo.openslo import load_slos

ROOT = Path(__file__).resolve().parents[2]
SCALE = 30
DIE, RAISE = 1.0, 3.0

RUNTIME = """
[runtime.cost]
usd_per_hour = 1.2

[runtime.tracing]
endpoint = "{collector}"
ratio = 0.1

[runtime.capture]
enabled = true
folder = "{captured}"
rate = 1.0
segment_s = 0.5
compact_s = 100_000.0

[runtime.capture.models.churn]
score = "churn_probability"
"""
POOL = """
[runtime.tracing]
endpoint = "{collector}"
ratio = 0.1

[runtime.models.moody]
pool = {{ replicas = 2, hang_ms = 5000 }}
"""
POD_RESTARTS_S = 60
"""Twice in what is an hour here: a panel shows it, and no alert fires."""
CLUSTER = """
kube_pod_container_status_restarts_total{{container="churn",pod="churn-7f9c-x2x4q"}} {restarts}
kube_pod_container_resource_limits{{container="churn",pod="churn-7f9c-x2x4q",resource="memory"}} 2.147483648e+09
container_memory_working_set_bytes{{container="churn",pod="churn-7f9c-x2x4q"}} 1.288490188e+09
rollout_info{{name="churn",namespace="shop",phase="Progressing",strategy="canary",traffic_router=""}} 1
rollout_info_replicas_unavailable{{name="churn",namespace="shop"}} 0
analysis_run_info{{name="churn-6d5f8b7c9-2-0",namespace="shop",phase="Successful"}} 1
DCGM_FI_DEV_FB_USED{{container="churn",Hostname="gpu-1",gpu="0"}} 9870
DCGM_FI_DEV_FB_FREE{{container="churn",Hostname="gpu-1",gpu="0"}} 14706
slipway_device_utilisation_ratio{{device="gpu:0"}} 0.71
slipway_device_memory_bytes{{device="gpu:0",state="used"}} 1.0349445120e+10
slipway_device_memory_bytes{{device="gpu:0",state="total"}} 2.5769803776e+10
"""
"""As kube-state-metrics 2.13, cAdvisor, Argo Rollouts 1.9 (a release that goes on) and dcgm-exporter 3.3 write them;
and ours, of a host with a GPU."""


class Watched(Struct, frozen=True):
    """What is there to be asked."""

    prometheus: Prometheus
    alertmanager_url: str
    stack: AlertStack
    services: tuple[str, ...]
    """Whose objectives are compiled: churn, moody."""

    server_urls: Mapping[str, str]
    """Of `churn` (stable), `churn-canary`, `moody`."""

    admin_urls: Mapping[str, str]
    """The same servers' admin ports."""

    folders: Mapping[str, Path]
    """The same servers' service folders."""

    captured: Path
    """Where stable keeps what it captured."""

    since: float
    """Unix seconds when the load began."""


class TrackedStack(AlertStack):
    """Targets with the labels that a scrape configuration gives: service, and stable or canary."""

    def __init__(self, *args: Any, tracked: Sequence[tuple[str, Mapping[str, str]]], **options: Any) -> None:
        self._tracked = tuple(tracked)
        super().__init__(*args, **options)

    def retarget(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Write those of `tracked`; `targets` is empty."""
        assert not targets
        found = [{"targets": [address], "labels": dict(labels)} for address, labels in self._tracked]
        beside = self.folder / "targets.tmp"
        beside.write_text(json.dumps(found))
        beside.rename(self.folder / "targets.json")


class Customers:
    """Rows that the model was trained on, with its answers."""

    def __init__(self) -> None:
        import xgboost

        train = training()
        columns, _ = train.make_customers()
        columns = {name: values[-train.HELD_OUT :] for name, values in columns.items()}
        model = xgboost.Booster(model_file=trained_churn() / "model" / "churn.ubj")
        self.scores = [float(s) for s in model.predict(train.matrix(columns, None, slice(None)))]
        self.rows = [
            {
                "tenure_months": float(tenure),
                "monthly_charges": float(charges),
                "support_calls": int(calls),
                "income": None if income != income else float(income),  # noqa: PLR0124 - NaN is not told
                "contract": train.CONTRACTS[int(contract)],
            }
            for tenure, charges, calls, income, contract in zip(*columns.values(), strict=True)
        ]

    def ask(self, number: int) -> tuple[str, Mapping[str, object]]:
        """Mostly customers; now and then a mistake, and a row over the protocol."""
        if number % 20 == 7:
            return "/predict", {**self.rows[number % len(self.rows)], "contract": "weekly"}
        if number % 20 == 13:
            return "/v2/models/churn/infer", as_tensors(self.rows[number % len(self.rows)])
        return "/predict", self.rows[number % len(self.rows)]


def as_tensors(one: Mapping[str, Any]) -> dict[str, object]:
    """A row in the Open Inference Protocol."""
    kinds = {"tenure_months": "FP64", "monthly_charges": "FP64", "support_calls": "INT64", "income": "FP64"}
    inputs = [
        {
            "name": name,
            "datatype": kinds.get(name, "BYTES"),
            "shape": [1],
            "data": [30_000.0 if value is None else value],
        }
        for name, value in one.items()
    ]
    return {"inputs": inputs}


def misbehave(number: int) -> tuple[str, Mapping[str, object]]:
    """What moody is asked: mostly fine; errors, slow answers, and calls of a neighbour that refuses some."""
    match number % 20:
        case 3 | 11:
            return wish("slow")
        case 5:
            return wish("error")
        case 7 | 17:
            return wish("neighbour")
        case 9:
            return row(RAISE)
        case place if place % 2:
            return wish("fine")
    return row()


def ingest(captured: Path, known: Customers, numbers: range) -> None:
    """Tell what became of those predictions, by the command line: nine in ten as the model said."""
    lines = ["request_id,label,observed_at"]
    for n in numbers:
        if n % 20 not in {7, 13}:
            is_right = n % 10 != 0
            lines.append(
                f"n{n},{str((known.scores[n % len(known.scores)] >= 0.5) == is_right).lower()},{time.time():.3f}"
            )
    path = captured.parent / f"labels-{numbers.start}.csv"
    path.write_text("\n".join(lines) + "\n")
    slipway("capture", "compact", "--folder", str(captured))
    slipway("labels", "ingest", "--folder", str(captured), str(path))


def build(folder: Path, home: Path) -> str:
    """The reference of the folder's bundle, in the store of `home`."""
    return slipway("bundle", "build", str(folder), home=home).strip()


def slipway(*words: str, home: Path | None = None) -> str:
    """Run the command line; returns what it prints."""
    environment = {**os.environ} | ({"SLIPWAY_HOME": str(home)} if home else {})
    command = [sys.executable, "-m", "slipway_cli", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(folder: Path, running: ExitStack) -> Watched:
    """Start everything on `running`, and return when there is something to see."""
    traces = running.enter_context(collector())
    beside = running.enter_context(neighbour(lambda number: Reply(503 if number % 6 == 0 else 200)))
    folders = {name: folder / name / "churn" for name in ("churn", "churn-canary")}
    for name, place in folders.items():
        shutil.copytree(trained_churn(), place, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        config = place / "slipway.toml"
        shutil.copy(ROOT / "requirements.lock", place)
        runtime = RUNTIME.format(collector=traces.url, captured=folder / f"{name}-captured")
        config.write_text(config.read_text().replace("synthetic", f"synthetic, {name}") + runtime)
    served = {name: build(place, folder) for name, place in folders.items()}
    folders["moody"] = write_moody(folder / "moody", POOL.format(collector=traces.url), neighbour=beside.url)
    served["moody"] = str(folders["moody"])
    flags: dict[str, object] = {"grpc": True, "grpc_port": 0}
    servers = {
        name: running.enter_context(
            serving(what, store=folder / "store", flags=flags, env=environment_of(folders["moody"]))
        )
        for name, what in served.items()
    }
    since = time.time()
    cluster = running.enter_context(
        metrics_page(lambda: CLUSTER.format(restarts=int(time.time() - since + 45) // POD_RESTARTS_S))
    )
    tracked = [
        (address_of(servers["churn"].admin), {"service": "churn", "track": "stable"}),
        (address_of(servers["churn-canary"].admin), {"service": "churn", "track": "canary"}),
        (address_of(servers["moody"].admin), {"service": "moody", "track": "stable"}),
        (cluster.address, {"service": "churn", "job": "cluster", "track": "stable"}),
    ]
    slos = [load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml"), moody_slos()]
    stack = running.enter_context(TrackedStack(folder / "stack", slos, {}, tracked=tracked, scale=SCALE))
    known = Customers()
    for name, rate in (("churn", 30), ("churn-canary", 12)):
        running.enter_context(traffic(servers[name].url, known.ask, rate=rate, clients=4))
    running.enter_context(traffic(servers["churn-canary"].url, known.ask, rate=2, clients=1, patience_ms=0.05))
    running.enter_context(traffic(servers["moody"].url, misbehave, rate=20, clients=4))
    happen(stack, servers, known, folder / "churn-captured")
    return Watched(
        prometheus=Prometheus(stack.url),
        alertmanager_url=stack.alertmanager_url,
        stack=stack,
        services=("churn", "moody"),
        server_urls={name: served.url for name, served in servers.items()},
        admin_urls={name: served.admin for name, served in servers.items()},
        folders=folders,
        captured=folder / "churn-captured",
        since=since,
    )


def happen(stack: AlertStack, servers: Mapping[str, Served], known: Customers, captured: Path) -> None:
    """Let each fault be there once, labels come twice, and wait until it can be seen."""
    found = re.search(r"grpc +(\S+)", servers["churn"].said())
    assert found, servers["churn"].said()
    with triton.InferenceServerClient(found[1]) as client:
        assert client.is_model_ready("churn")
    stack.until('sum(increase(slipway_inferences_total{service="churn",track="stable",result="ok"}[10s])) > 150')
    ingest(captured, known, range(100))
    with httpx.Client(base_url=servers["moody"].url, timeout=60, headers={"x-slipway-timeout-ms": "30000"}) as client:
        for number in (1, 2):
            path, body = row(DIE, tenure_days=100.0 + number)
            assert client.post(path, json=body).status_code >= httpx.codes.BAD_REQUEST  # it has killed two replicas
            stack.until(f'sum(slipway_pool_quarantined_total{{service="moody"}}) == {number}')
    stack.until("slipway_prediction_realized_total > 0")
    stack.until('slipway:drift_rows:1h{service="churn",track="canary"} > 300')
    ingest(captured, known, range(100, 400))
    for seen in (
        'ALERTS{alertname="SlipwaySLOFastBurn",service="churn",alertstate="firing"}',
        "slipway:prediction_realized_accuracy:1d",
    ):
        stack.until(seen)
