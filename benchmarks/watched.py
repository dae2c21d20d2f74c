"""The bench's service with what watches it switched on, all together and each alone, and a collector for its traces.

    .venv/bin/python benchmarks/watched.py            # makes $BENCH_DIR/service-watched, …; setup.sh calls it
    taskset -c 1 .venv/bin/python benchmarks/watched.py --collect &   # takes the traces while serving.py runs
    .venv/bin/python benchmarks/serving.py --servers slipway,slipway-watched --conns 64
    .venv/bin/python benchmarks/serving.py --servers slipway-unlogged,slipway,slipway-drift --conns 64

Traces at 1 %, capture at 1 %, and drift of all features and the prediction. Metrics are always on. So are logs but in
`slipway-unlogged`, which says nothing: `slipway` beside it is what logs cost; `slipway-drift`, `slipway-capture` and
`slipway-traces` beside `slipway` are what that part costs alone.
"""

import argparse
import http.server
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slipway_bundle import RowCodec, load_service, open_folder
from slipway_serve import Service
from slipway_signals.drift import build_profile, encode_profile

HERE = Path(__file__).parent
HOME = Path(os.environ.get("BENCH_DIR", HERE / ".bench"))
PORT = 4318
ROWS = 20_000
TRACES = """
[runtime.tracing]
endpoint = "http://127.0.0.1:{port}"
"""
CAPTURE = """
[runtime.capture]
enabled = true
folder = "{captured}"
rate = 0.01
"""
UNLOGGED = """
[runtime.logging]
level = "error"
requests_ratio = 0.0
"""


class Variant(NamedTuple):
    """What is switched on in one folder."""

    has_drift: bool
    settings: str


VARIANTS = {
    "watched": Variant(has_drift=True, settings=TRACES + CAPTURE),
    "drift": Variant(has_drift=True, settings=""),
    "capture": Variant(has_drift=False, settings=CAPTURE),
    "traces": Variant(has_drift=False, settings=TRACES),
    "unlogged": Variant(has_drift=False, settings=UNLOGGED),
}


def main() -> None:
    """Make the folders, or collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", action="store_true", help="answer 200 to whatever is exported, until Ctrl-C")
    if parser.parse_args().collect:
        http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Collector).serve_forever()
    profile = reference(HERE / "service")
    for name, variant in VARIANTS.items():
        write(HOME / f"service-{name}", variant, profile)


def write(target: Path, variant: Variant, profile: bytes) -> None:
    """Make the folder of one variant anew."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(HERE / "service", target)
    settings = target / "slipway.toml"
    text = settings.read_text()
    if variant.has_drift:
        (target / "model" / "reference.json").write_bytes(profile)
        text = text.replace('format = "xgboost"\n', 'format = "xgboost"\nreference = "model/reference.json"\n')
    settings.write_text(text + variant.settings.format(port=PORT, captured=HOME / f"captured-{target.name}"))


def reference(folder: Path) -> bytes:
    """A profile of normal numbers: what is compared does not matter to what it costs."""
    service = load_service(open_folder(folder))
    assert isinstance(service, Service)
    inputs = RowCodec(service.models["churn"].row)
    draw = np.random.default_rng(1)
    table = {spec.name: draw.normal(size=ROWS) for spec in inputs.specs}
    outputs = RowCodec(service.models["churn"].answer)
    answers = draw.uniform(size=ROWS)
    return encode_profile(build_profile("churn", inputs.specs, table, outputs=outputs.specs, predictions=answers))


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what is sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read it, and say 200."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Say nothing."""


if __name__ == "__main__":
    main()
