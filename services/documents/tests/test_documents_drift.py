"""What drift of the documents service is measured against, and that it is counted."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from drawn_pages import INVOICE, drawn, packed

from documents_service.service import service
from slipway_bundle.config import load_config
from slipway_bundle.description import codecs
from slipway_bundle.schema import ModelSchema
from slipway_signals.drift import Profile, judge_reference, load_profile
from slipway_signals.drift.profile import Numeric

WATCHED = {"detect": ("count", ["width", "height"]), "recognise": ("score", [])}


@pytest.fixture(scope="module")
def script(folder: Path) -> ModuleType:
    """`reference.py`, which is a program beside the service."""
    spec = importlib.util.spec_from_file_location("documents_reference", folder / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def facts(profile: Profile) -> tuple[str, list[str]]:
    assert profile.prediction is not None
    return profile.prediction.feature.name, [feature.name for feature in profile.features]


@pytest.mark.parametrize("name", WATCHED)
def test_the_committed_reference_fits_the_service(folder: Path, name: str) -> None:
    config = load_config(folder).bundle.models[name]
    inputs, outputs = codecs(service.models[name], config.format)
    assert config.reference is not None
    path = folder / config.reference

    judge_reference(name, path.read_bytes(), ModelSchema(inputs=inputs.specs, outputs=outputs.specs))

    profile = load_profile(path)
    assert facts(profile) == WATCHED[name]
    assert profile.rows >= 200
    assert profile.prediction is not None
    assert isinstance(profile.prediction.feature, Numeric)
    assert len(profile.prediction.feature.counts) >= 5


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_reference(script: ModuleType, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(packed(drawn(INVOICE)))
    (pictures / "b.JPG").write_bytes(packed(drawn((), 300, 200), "JPEG"))
    (pictures / "notes.txt").write_text("no picture")

    script.main(pictures, tmp_path / "reference")

    found = {name: load_profile(tmp_path / "reference" / f"{name}.json") for name in WATCHED}
    assert {name: facts(profile) for name, profile in found.items()} == WATCHED
    counts = found["detect"].prediction
    assert counts is not None
    assert isinstance(counts.feature, Numeric)
    assert (found["detect"].rows, counts.feature.low, counts.feature.high) == (2, 0.0, float(len(INVOICE)))
    assert found["recognise"].rows == len(INVOICE)


def test_a_folder_without_pictures_is_told(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no picture is in"):
        script.main(tmp_path)


def test_the_synthetic_pages_are_the_same_every_time(script: ModuleType) -> None:
    assert list(script.drawn(3)) == list(script.drawn(3))
