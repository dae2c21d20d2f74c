"""Objectives in a bundle: carried byte for byte, and no part of the content digest."""

from pathlib import Path

import pytest

from slipway_bundle.build import build
from slipway_bundle.errors import FileError
from slipway_bundle.store import Store
from slipway_bundle.view import open_bundle, open_folder

SLO = b"kind: SLO\n# r\xc3\xa9ponses\n"


def test_objectives_travel_byte_for_byte(folder: Path, store: Store) -> None:
    (folder / "slo.yaml").write_bytes(SLO)

    built = build(folder, store, environ={})

    assert open_bundle(store, built.ref).objectives == open_folder(folder).objectives == SLO


def test_another_promise_about_a_model_is_the_same_model(folder: Path, store: Store) -> None:
    without = build(folder, store, environ={})
    (folder / "slo.yaml").write_bytes(SLO)

    promised = build(folder, store, environ={})

    assert open_bundle(store, without.ref).objectives is None
    assert promised.content_digest == without.content_digest
    assert promised.digest != without.digest


def test_objectives_that_are_too_long_are_not_packed(folder: Path, store: Store) -> None:
    (folder / "slo.yaml").write_bytes(b"#" * (1024 * 1024 + 1))

    with pytest.raises(FileError, match="has 1048577 bytes, expected at most 1048576"):
        build(folder, store, environ={})
