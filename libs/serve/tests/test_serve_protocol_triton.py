"""Triton's own client against a real server: the protocol as its best known client speaks it."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton  # type: ignore[import-untyped]  # the package has no types
import tritonclient.http.aio as triton_aio  # type: ignore[import-untyped]  # the package has no types
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]  # the package has no types
from web_service import Running, running, write_wide

NAME = "triton"
COLUMNS: dict[str, tuple[str, NDArray[np.generic] | NDArray[np.object_]]] = {
    "ratio": ("FP32", np.array([0.25, 0.5], np.float32)),
    "income": ("FP32", np.array([np.nan, 7], np.float32)),
    "count": ("INT64", np.array([3, 4])),
    "on": ("BOOL", np.array([True, False])),
    "word": ("BYTES", np.array(["héllo", ""], np.object_)),
    "blob": ("BYTES", np.array([b"abc", b""], np.object_)),
    "kind": ("BYTES", np.array(["small", "large"], np.object_)),
    "colour": ("BYTES", np.array(["blue", "red"], np.object_)),
    "place.lat": ("FP32", np.array([1.5, -1.5], np.float32)),
    "place.lon": ("FP32", np.array([2.5, 2.5], np.float32)),
    "trio": ("FP32", np.ones((2, 3), np.float32)),
    "grid": ("FP32", np.arange(12, dtype=np.float32).reshape(2, 2, 3)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME)) as served:
        yield served


@pytest.fixture
def client(server: Running) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(server.address)
    yield made
    made.close()


def inputs(*, is_binary: bool) -> list[triton.InferInput]:
    made = []
    for name, (datatype, array) in COLUMNS.items():
        tensor = triton.InferInput(name, list(array.shape), datatype)
        data = np.array([1.0, 7.0], np.float32) if name == "income" and not is_binary else array
        made.append(tensor.set_data_from_numpy(data, binary_data=is_binary))
    return made


def test_the_client_sees_a_live_server_and_a_ready_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready(NAME, "2")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert [tensor["name"] for tensor in client.get_model_metadata(NAME)["inputs"]] == list(COLUMNS)


@pytest.mark.parametrize("is_binary_in", [True, False])
@pytest.mark.parametrize("is_binary_out", [True, False])
def test_infer_in_json_and_in_binary_gives_the_same(
    client: triton.InferenceServerClient, is_binary_in: bool, is_binary_out: bool
) -> None:
    names = ("ratio_twice", "count", "on", "word", "blob", "sums")
    wanted = [triton.InferRequestedOutput(name, binary_data=is_binary_out) for name in names]

    result = client.infer(NAME, inputs(is_binary=is_binary_in), outputs=wanted, request_id="r-1")

    assert result.get_response()["id"] == "r-1"
    assert result.as_numpy("ratio_twice").tolist() == [0.5, 1.0]
    assert result.as_numpy("count").tolist() == [3, 4]
    assert result.as_numpy("on").tolist() == [True, False]
    words = [word if isinstance(word, str) else word.decode() for word in result.as_numpy("word").tolist()]
    assert words == ["héllo", ""]
    assert result.as_numpy("sums").tolist() == [[3.0, 12.0], [21.0, 30.0]]


def test_the_client_s_default_gives_all_outputs_and_a_version_may_be_named(
    client: triton.InferenceServerClient,
) -> None:
    result = client.infer(NAME, inputs(is_binary=True), model_version="1", timeout=5_000_000, priority=1)

    assert result.as_numpy("count").tolist() == [3, 4]
    assert result.as_numpy("blob").tolist() == [b"abc", b""]


def test_the_asyncio_client_infers_too(server: Running) -> None:
    async def infer() -> list[float]:
        async with triton_aio.InferenceServerClient(server.address) as client:
            result = await client.infer(NAME, inputs(is_binary=True))
            return list(result.as_numpy("ratio_twice"))

    assert asyncio.run(infer()) == [0.5, 1.0]


def test_the_client_shows_our_sentence(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"no model 'nope' is published, expected 'triton'"):
        client.get_model_metadata("nope")
    with pytest.raises(InferenceServerException, match=r"\$\.inputs` is no tensor 'ratio'"):
        client.infer(NAME, inputs(is_binary=True)[1:])
