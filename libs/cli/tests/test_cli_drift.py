"""`slipway drift report`: a page out of captured rows, by a process of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_commands import Slipway
from msgspec import Struct

from slipway_bundle import RowCodec
from slipway_signals.drift import build_profile, encode_profile


class Row(Struct, frozen=True):
    income: float


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reference profile and a table of rows that moved."""
    draw = np.random.default_rng(1)
    profile = build_profile("churn", RowCodec(Row).specs, {"income": draw.normal(size=5_000)})
    (tmp_path / "reference.json").write_bytes(encode_profile(profile))
    np.savez(tmp_path / "captured.npz", income=draw.normal(1.0, size=2_000))
    return tmp_path


def test_a_report_is_written_and_its_page_is_named(slipway: Slipway, folder: Path) -> None:
    out = folder / "report"
    said = slipway(
        "drift", "report", str(folder / "captured.npz"), "--profile", str(folder / "reference.json"), "--out", str(out)
    )

    assert said.status == 0
    assert said.out.strip() == str(out / "index.html")
    assert "1 of 1 inputs moved: income" in (out / "index.html").read_text()
    assert "2,000 rows against 5,000" in said.err


def test_json_has_the_figures(slipway: Slipway, folder: Path) -> None:
    out = folder / "report"

    figures = slipway(
        *("drift", "report", str(folder / "captured.npz"), "--profile", str(folder / "reference.json")),
        *("--out", str(out), "--json"),
    ).document

    assert figures["features"][0]["psi"] > 0.5
    assert figures["page"] == str(out / "index.html")


def test_what_the_process_meets_is_the_verbs_own_error(slipway: Slipway, folder: Path) -> None:
    (folder / "reference.json").write_text("{}")

    said = slipway(
        "drift", "report", str(folder / "captured.npz"), "--profile", str(folder / "reference.json"), "--json"
    )

    assert said.status == 1
    assert json.loads(said.out)["error"]["code"] == "profile_invalid"
