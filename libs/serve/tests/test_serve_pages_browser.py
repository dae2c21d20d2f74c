"""The card in a real browser: it loads without a complaint, and its form gets a prediction."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serve_folders import write_minimal
from web_service import running, write_wide

from slipway_serve.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
)
COMPLAINT = re.compile(r".*:CONSOLE.*")


def dom_and_complaints(url: str, profile: Path) -> tuple[str, list[str]]:
    """The page's elements after its scripts ran, and what it said on the console."""
    chromium = shutil.which("chromium")
    assert chromium is not None
    ran = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    )
    return ran.stdout, COMPLAINT.findall(ran.stderr)


def test_sending_the_form_shows_a_prediction(tmp_path: Path) -> None:
    with running(write_minimal(tmp_path / "service", "browsed")) as server, server.client() as client:
        row = {"tenure_days": 0.0, "mean_charge": 0.0}
        expected = client.post("/predict", json=row).json()["probability"]

        dom, complaints = dom_and_complaints(f"{server.url}/#try", tmp_path / "profile")

    assert complaints == []
    assert 'class="pill good"' in dom
    assert "200 OK" in dom
    assert f"<dd>{float(f'{expected:.6g}')}</dd>" in dom
    assert f"curl -s {server.url}/predict" in dom


def test_a_problem_is_shown_at_its_field_and_a_hostile_docstring_stays_text(tmp_path: Path) -> None:
    def break_example(engines: list[Engine]) -> None:
        engines[0].examples["hostile"] = {**engines[0].examples["hostile"], "count": 1001}

    with running(write_wide(tmp_path / "service", "hostile"), prepare=break_example) as server:
        dom, complaints = dom_and_complaints(f"{server.url}/#try", tmp_path / "profile")

    assert complaints == []
    assert "<title>hostile</title>" in dom
    assert "422 Input does not fit the schema" in dom
    assert re.search(r'<input[^>]* id="wide-count"[^>]* aria-invalid="true"', dom)
    assert re.search(r'<p id="wide-count-error" class="error">Expected <code>int</code>', dom)


def test_a_complaint_of_the_browser_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>missing()</script>")

    _, complaints = dom_and_complaints(page.as_uri(), tmp_path / "profile")

    assert "missing is not defined" in complaints[0]
