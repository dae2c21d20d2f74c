"""The service as its users reach it: a real server, a dispatcher and a runner for each step."""

import base64
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from drawn_pages import INVOICE, drawn, letters, packed
from PIL import Image
from serve_process import Served, serving

pytestmark = pytest.mark.slow

PICTURE = packed(drawn(INVOICE))


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(folder, store=tmp_path_factory.mktemp("store") / "store") as running:
        yield running


def test_the_greeting_names_a_pool_for_each_step(served: Served) -> None:
    for step in ("detect", "orient", "recognise"):
        assert f"documents-{step}: 1 runner for {step}" in served.said()


def test_upload_base64_and_raw_body_give_the_same_lines(served: Served) -> None:
    with served.client() as client:
        raw = client.post("/infer", content=PICTURE, headers={"content-type": "image/png"})
        form = client.post("/infer", files={"image": ("page.png", PICTURE, "image/png")})
        text = client.post("/infer", json={"image": base64.b64encode(PICTURE).decode()})

    assert raw.status_code == 200, raw.text
    assert raw.json() == form.json() == text.json()
    found = [letters(line["text"]) for line in raw.json()["lines"]]
    assert letters(INVOICE[0].text) in found
    assert len(found) == len(INVOICE)


@pytest.mark.parametrize(("accept", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("*/*", "PNG")])
def test_the_drawn_picture_comes_in_the_type_that_is_accepted(served: Served, accept: str, kind: str) -> None:
    headers = {"content-type": "image/png", "accept": accept}
    with served.client() as client:
        reply = client.post("/render", content=PICTURE, headers=headers)

    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == f"image/{kind.lower()}"
    picture = Image.open(io.BytesIO(reply.content))
    assert (picture.format, picture.size) == (kind, (640, 480))


@pytest.mark.parametrize(
    ("content", "media", "status", "told"),
    [
        (b"", "image/png", 422, "$.image"),
        (b"not a picture", "image/png", 415, "$.image"),
        (PICTURE[:200], "image/png", 422, "$.image"),
        (PICTURE, "text/plain", 415, "content-type"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(
    served: Served, content: bytes, media: str, status: int, told: str
) -> None:
    with served.client() as client:
        reply = client.post("/infer", content=content, headers={"content-type": media})

    assert reply.status_code == status, reply.text
    assert told in reply.text


def test_each_step_is_batched_and_counted_on_its_own(served: Served) -> None:
    with served.client() as client:
        client.post("/infer", content=PICTURE, headers={"content-type": "image/png"})

    metrics = httpx.get(f"{served.admin}/metrics", timeout=10).text
    for step in ("detect", "orient", "recognise"):
        assert f'slipway_inference_batch_size_count{{model="{step}"}}' in metrics
        assert f'slipway_model_load_duration_seconds_count{{model="{step}"}} 1.0' in metrics


def test_what_was_seen_and_answered_is_counted_for_drift(served: Served) -> None:
    """Every page here is the same, so whatever was counted, each has its lines."""
    before = drift_rows(served)
    with served.client() as client:
        client.post("/infer", content=PICTURE, headers={"content-type": "image/png"})
    wait, now = threading.Event(), before
    for _ in range(300):
        now = drift_rows(served)
        if now["detect"] > before["detect"] and now["recognise"] == now["detect"] * len(INVOICE):
            break
        wait.wait(0.05)  # counted once a second, or when the buffer is full

    assert now["detect"] > before["detect"]
    assert now["recognise"] == now["detect"] * len(INVOICE)
    page = httpx.get(f"{served.admin}/metrics", timeout=10).text
    assert 'slipway_feature_bin_total{bin="low",feature="height",model="detect"}' in page


def drift_rows(served: Served) -> dict[str, float]:
    """Model -> answers in all bins."""
    page = httpx.get(f"{served.admin}/metrics", timeout=10).text
    found = re.findall(r'^slipway_prediction_bin_total\{.*model="(\w+)".*\} (\S+)$', page, re.MULTILINE)
    return {model: sum(float(rows) for name, rows in found if name == model) for model in ("detect", "recognise")}
