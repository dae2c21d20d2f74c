"""The models are the ones that were pinned, and say what the service believes about them."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_bundle import open_folder
from slipway_bundle.replay import replay


def fetch(folder: Path, into: Path, *, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    script = into.parent / "fetch.py"
    script.write_text(text or (folder / "fetch.py").read_text("utf-8"), "utf-8")
    return subprocess.run([sys.executable, script, into], capture_output=True, text=True, check=False, timeout=60)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_fetches_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    assert (fetch(folder, first).returncode, fetch(folder, second).returncode) == (0, 0)

    assert files_of(first) == files_of(second)
    assert set(files_of(first)) == {f"model/{m}.onnx" for m in ("detect", "orient", "recognise")} | {
        "model/lineage.json"
    }


def test_a_wheel_with_other_bytes_is_refused(folder: Path, tmp_path: Path) -> None:
    pinned = hashlib.sha256((folder / "model" / "orient.onnx").read_bytes()).hexdigest()
    text = (folder / "fetch.py").read_text("utf-8").replace(pinned, "0" * 64)

    refused = fetch(folder, tmp_path / "made", text=text)

    assert refused.returncode != 0
    assert f"expected sha256:{'0' * 64}, got sha256:{pinned}" in refused.stderr
    assert not (tmp_path / "made" / "model" / "orient.onnx").exists()


def test_lineage_names_the_files_that_were_copied(folder: Path) -> None:
    lineage = json.loads((folder / "model" / "lineage.json").read_bytes())

    digests = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (folder / "model").glob("*.onnx")}
    assert {origin["digest"] for origin in lineage["trainedFrom"]} == digests


def test_the_committed_alphabet_is_that_of_the_model(folder: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(folder / "model" / "recognise.onnx")

    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()

    committed = (folder / "src" / "documents_service" / "alphabet.txt").read_text("utf-8")
    assert committed == "".join(f"{character}\n" for character in characters)
    assert session.get_outputs()[0].shape[2] == len(characters) + 2  # the blank and the space


def test_the_models_give_their_golden_answers(folder: Path) -> None:
    from documents_service.service import service  # the folder's own, as a build imports it

    assert replay(open_folder(folder), service) == []


def test_importing_the_service_loads_no_network_library(folder: Path) -> None:
    """API workers import it; the networks are in the runners."""
    asked = "import sys, documents_service.service; print({'onnxruntime', 'rapidocr_onnxruntime'} & set(sys.modules))"

    said = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60, cwd=folder / "src"
    )

    assert said.stdout == "set()\n"
