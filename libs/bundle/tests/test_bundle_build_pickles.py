"""Pickles are refused by format, whatever they are wrapped in, with the reason and the safe alternative."""

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from slipway_bundle.build import build
from slipway_bundle.errors import ConfigError, PickleRefusedError
from slipway_bundle.pickles import pickle_reason
from slipway_bundle.policy import PicklePolicy, Policy, load_policy
from slipway_bundle.store import Store

VALUE = {"weights": list(range(1000)), "name": "model"}


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, pickle.dumps(VALUE))
    return buffer.getvalue()


def objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([VALUE], dtype=object), allow_pickle=True)
    return buffer.getvalue()


PICKLES = {
    **{f"protocol {number}": pickle.dumps(VALUE, number) for number in range(6)},
    "zlib": zlib.compress(pickle.dumps(VALUE)),
    "gzip": gzip.compress(pickle.dumps(VALUE)),
    "bz2": bz2.compress(pickle.dumps(VALUE)),
    "xz": lzma.compress(pickle.dumps(VALUE)),
    "lzma": lzma.compress(pickle.dumps(VALUE), lzma.FORMAT_ALONE),
    "torch": zipped("archive/data.pkl"),
    "zip": zipped("model.joblib"),
    "numpy": objects(),
    "a long one of protocol 0": pickle.dumps(list(range(50_000)), 0),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_is_refused_whatever_it_is_called_and_wrapped_in(folder: Path, store: Store, kind: str) -> None:
    (folder / "model" / "tiny.ubj").write_bytes(PICKLES[kind])

    with pytest.raises(PickleRefusedError, match="loading a pickle runs whatever code") as caught:
        build(folder, store, environ={})

    assert (caught.value.code, caught.value.exit_status) == ("pickle_refused", 1)
    assert "save_model('model.ubj')" in (caught.value.hint or "")
    assert store.refs() == ()


@pytest.mark.parametrize(
    "data",
    [b"", b"N.", b"text\n", zipped("schema.json"), gzip.compress(b"data"), b"PK\x03\x04 broken", b"\x80", b"\x93NUMPY"],
    ids=["nothing", "no stack", "text", "a zip of something else", "gzip", "no zip", "a start", "an array"],
)
def test_what_is_no_pickle_is_not_called_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(data)

    assert pickle_reason(path) is None


def test_a_real_model_is_no_pickle(folder: Path) -> None:
    assert pickle_reason(folder / "model" / "tiny.ubj") is None


def test_a_bomb_is_read_to_its_limit_only(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(zlib.compress(bytes(1 << 28)))

    assert pickle_reason(path) is None


def test_a_policy_that_allows_signers_still_refuses_because_no_format_runs_code(folder: Path, store: Store) -> None:
    (folder / "policy.toml").write_text('[pickle]\nallow_signers = ["ci@example.org"]\n')
    (folder / "model" / "tiny.ubj").write_bytes(PICKLES["protocol 4"])

    with pytest.raises(PickleRefusedError, match=r"'ci@example\.org', and a bundle of version 1 has no format"):
        build(folder, store, environ={})


def test_without_a_file_the_policy_allows_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()

    assert load_policy(tmp_path) == Policy(pickle=PicklePolicy(allow_signers=()))


@pytest.mark.parametrize(
    ("text", "said"),
    [("[pickel]\n", "unknown key `pickel`"), ("[pickle]\nallow_signers = 3\n", "not valid"), ("[", "not TOML")],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "policy.toml").write_text(text)

    with pytest.raises(ConfigError, match=said):
        load_policy(tmp_path)
