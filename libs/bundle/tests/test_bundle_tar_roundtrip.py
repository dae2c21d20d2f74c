"""Any set of files: packed by us, read by Python's tarfile and by our strict reader."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway_bundle.extract import scan_layer, unpack
from slipway_bundle.layers import LayerFile
from slipway_bundle.paths import NameSet
from slipway_bundle.store import Store
from slipway_bundle.store_errors import MemberNameError

component = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/\\"), min_size=1, max_size=30
)
path = st.lists(component, min_size=1, max_size=6).map("/".join)
content = st.binary(max_size=1200) | st.integers(1 << 20, (1 << 20) + 1025).map(bytes)
files = st.dictionaries(path, st.tuples(content, st.sampled_from([0o644, 0o755])), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        yield Store.open(Path(folder) / "store")


def packable(names: list[str]) -> bool:
    accepted = NameSet()
    return all(accepted.add_file(name) is None for name in names)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(files)
def test_what_is_packed_is_what_is_read(store: Store, files: dict[str, tuple[bytes, int]]) -> None:
    """Against `tarfile`, against our own reader, and against the tree that is unpacked."""
    sources = [LayerFile(name, data, mode) for name, (data, mode) in files.items()]
    if not packable(list(files)):
        with pytest.raises(MemberNameError):
            store.put_layer(sources)
        return

    layer = store.put_layer(sources)

    with tarfile.open(store.blob(layer.descriptor.digest), "r:", errorlevel=2) as tar:
        read = {each.name: each for each in tar if each.isfile()}
        assert {name: tar.extractfile(each).read() for name, each in read.items()} == {  # type: ignore[union-attr]  # files
            name: data for name, (data, _) in files.items()
        }
    assert {name: each.mode for name, each in read.items()} == {name: mode for name, (_, mode) in files.items()}
    assert {each.path: each.offset for each in layer.entries} == {name: each.offset_data for name, each in read.items()}
    assert scan_layer(store, layer.descriptor) == layer


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(files)
def test_what_is_packed_is_what_is_unpacked(store: Store, files: dict[str, tuple[bytes, int]]) -> None:
    if not packable(list(files)):
        return
    layer = store.put_layer([LayerFile(name, data, mode) for name, (data, mode) in files.items()])

    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        unpack(store, [layer.descriptor], tree)

        found = {each.relative_to(tree).as_posix(): each for each in tree.rglob("*") if each.is_file()}
        assert {name: (each.read_bytes(), each.stat().st_mode & 0o7777) for name, each in found.items()} == files
