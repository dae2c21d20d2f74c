"""The report: our page says what the counters say, Evidently agrees, nothing needs a network."""

import html
import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from msgspec import Struct

from slipway_bundle import RowCodec
from slipway_signals.drift import DriftCounters, Profile, TableError, build_profile, encode_profile, stats
from slipway_signals.drift.comparison import compare
from slipway_signals.drift.page import render_page
from slipway_signals.drift_report import read_captured, write_report
from slipway_signals.slots import Slots

NEEDS_EVIDENTLY = pytest.mark.skipif(
    importlib.util.find_spec("evidently") is None, reason="evidently is not installed: slipway-signals[drift-report]"
)


class Row(Struct, frozen=True, kw_only=True):
    income: float
    age: float
    contract: Literal["monthly", "yearly", "weekly"]


class Risk(Struct, frozen=True):
    risk: float


CODEC = RowCodec(Row)
OUTPUTS = RowCodec(Risk).specs


def table(seed: int, rows: int, *, shift: float = 0.0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    words = np.array(["monthly", "yearly", "weekly"])
    return {
        "income": draw.lognormal(10 + shift, 0.5, rows).astype(np.float32).astype(float),
        "age": draw.normal(40, 12, rows).astype(np.float32).astype(float),
        "contract": words[draw.choice(3, rows, p=[0.6 - shift / 2, 0.3 + shift / 2, 0.1])],
        "risk": draw.beta(2 + shift * 3, 5, rows).astype(np.float32).astype(float),
    }


def profile() -> Profile:
    sample = table(1, 15_000)
    return build_profile("churn", CODEC.specs, sample, outputs=OUTPUTS, predictions=sample["risk"])


def capture(folder: Path, columns: dict[str, Any], rows: int) -> None:
    """Parts as capture writes them: two hours, a few errors among the rows."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    half = rows // 2
    for number, span in enumerate((slice(0, half), slice(half, rows))):
        path = folder / f"hour={number}" / "part.parquet"
        path.parent.mkdir(parents=True)
        named = {
            f"{'prediction' if name == 'risk' else 'features'}.{name}": column[span] for name, column in columns.items()
        }
        count = len(named["features.age"])
        kept = ["error" if at % 50 == 0 else "sample" for at in range(count)]
        extra = {"kept": kept, "status": [500 if one == "error" else 200 for one in kept], "request_id": ["x"] * count}
        pq.write_table(pa.table({**named, **extra}), path)


def test_the_report_and_the_counters_tell_the_same(tmp_path: Path) -> None:
    reference, current = profile(), table(2, 2_000, shift=0.3)
    slots, fd = Slots.create()
    counters = DriftCounters(slots, "churn", reference, CODEC, rows_per_s=1e6, clock=lambda: 0.0)

    names = ("income", "age", "contract")
    for number in range(2_000):
        row = Row(**{name: current[name][number].item() for name in names})
        counters.observe(CODEC.pack(row), 1, {"risk": current["risk"][number : number + 1]}, 0)
    counters.flush()
    found = compare(reference, current)
    os.close(fd)

    places = iter(counters._series.features)
    for feature in reference.features:
        counts = [next(places).value for _ in feature.bins]
        reported = next(one for one in found.features if one.name == feature.name)
        assert reported.psi == pytest.approx(
            stats.psi(stats.shares(feature.bin_counts), stats.shares(counts)), abs=1e-12
        )
    assert found.prediction is not None
    answered = [counter.value for counter in counters._series.prediction]
    assert found.prediction.current == pytest.approx([count / 2_000 for count in answered])


def test_captured_parts_are_read_without_their_errors(tmp_path: Path) -> None:
    capture(tmp_path, table(2, 1_000), 1_000)

    columns = read_captured(tmp_path)

    assert {"income", "age", "contract", "risk"} <= columns.keys()
    assert len(columns["income"]) == 980


def test_the_page_says_what_moved_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = write_report(profile(), table(2, 3_000, shift=0.4), tmp_path / "report", when="20 November")

    text = page.read_text()
    figures = json.loads((tmp_path / "report" / "drift.json").read_text())
    assert "The predictions have moved; 2 of 3 inputs moved: income, contract" in html.unescape(text)
    assert figures["features"][0]["name"] == "income"
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe", text)
    assert '<meta name="viewport" content="width=device-width' in text
    assert not (tmp_path / "report" / "evidently.html").exists()


class Tags(HTMLParser):
    """Tags in a page, to see that words stayed words."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def test_names_out_of_data_cannot_become_markup() -> None:
    nasty = "<script>alert(1)</script>"
    found = compare(profile(), table(2, 500))
    renamed = msgspec.structs.replace(
        found.features[0], name=nasty, bins=(nasty, *found.features[0].bins[1:]), bounds=()
    )
    tags = Tags()

    text = render_page(
        msgspec.structs.replace(found, features=(renamed,), absent=(nasty,)), title=nasty, when=nasty, evidently='"><b>'
    )
    tags.feed(text)

    assert "script" not in tags.tags
    assert "b" not in tags.tags


def test_a_table_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="has none of the columns of model 'churn': got x"):
        write_report(profile(), {"x": [1.0]}, tmp_path / "report")

    assert not (tmp_path / "report").exists()


def test_a_column_that_was_redacted_is_named_and_the_rest_is_told(tmp_path: Path) -> None:
    columns = {**table(2, 100), "age": ["9f2c"] * 100}

    found = compare(profile(), columns)

    assert found.absent == ("age",)
    assert {one.name for one in found.features} == {"income", "contract"}


AGREE = """
import json, sys
from pathlib import Path
from slipway_signals.drift import load_profile, read_table
from slipway_signals.drift_report import run_evidently
folder = Path(sys.argv[1])
psi = run_evidently(
    load_profile(folder / "profile.json"), read_table(folder / "reference.npz"), read_table(folder / "current.npz"),
    folder / "page.html",
)
print(json.dumps(psi))
"""


@pytest.mark.slow
@NEEDS_EVIDENTLY
@pytest.mark.e2e
def test_evidently_agrees_with_our_bins_and_with_its_own(tmp_path: Path) -> None:
    """Words: the same formula, within 0.001. Numbers: Evidently bins over both samples (evidently#1400), so within
    30 % or 0.02. The same verdict at 0.1, either way."""
    reference, current = table(1, 15_000), table(2, 5_000, shift=0.35)
    (tmp_path / "profile.json").write_bytes(encode_profile(profile()))
    np.savez(tmp_path / "reference.npz", **reference)
    np.savez(tmp_path / "current.npz", **current)

    done = subprocess.run([sys.executable, "-c", AGREE, str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    found = compare(profile(), current)
    assert found.prediction is not None
    ours = {one.name: one.psi for one in (*found.features, found.prediction)}
    assert theirs["contract"] == pytest.approx(ours["contract"], abs=0.001)
    for name in ("income", "age", "risk"):
        assert theirs[name] == pytest.approx(ours[name], rel=0.3, abs=0.02), name
        assert (theirs[name] >= 0.1) == (ours[name] >= 0.1), name
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", page)


@pytest.mark.slow
@NEEDS_EVIDENTLY
def test_the_process_writes_both_pages_and_stays_off_the_network(tmp_path: Path) -> None:
    """Every socket that is opened to another machine ends the process: none is."""
    capture(tmp_path / "captured", table(2, 1_000), 1_000)
    (tmp_path / "profile.json").write_bytes(encode_profile(profile()))
    np.savez(tmp_path / "reference.npz", **table(1, 2_000))
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(
        "import socket, os\n"
        "def refuse(*a, **k):\n    os.write(2, b'a connection was tried\\n')\n    os._exit(99)\n"
        "socket.socket.connect = refuse\nsocket.getaddrinfo = refuse\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(guard)}
    environment.pop("DO_NOT_TRACK", None)
    command = [
        sys.executable,
        "-m",
        "slipway_signals.drift_report",
        "--profile",
        "profile.json",
        "--current",
        "captured",
    ]

    done = subprocess.run(
        [*command, "--reference", "reference.npz", "--out", "report"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout == "report/index.html\n"
    assert 'href="evidently.html"' in (tmp_path / "report" / "index.html").read_text()
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "drift.json",
        "evidently.html",
        "index.html",
    ]


def test_an_error_is_one_object_and_a_status(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slipway_signals.drift_report",
        "--profile",
        "none.json",
        "--current",
        "x",
        "--out",
        "o",
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert json.loads(done.stderr)["error"]["code"] == "file_unreadable"
