from pathlib import Path

import pytest
from serve_folders import write_minimal
from serve_process import serving
from upstream_servers import Neighbour, neighbour

pytestmark = pytest.mark.alone  # how long something takes is judged here

RELAY = '''

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from slipway_serve.upstream import Upstream


class Next(Struct, frozen=True):
    """Where the next service is."""

    url: str


class Told(Struct, frozen=True):
    """What the next one answered."""

    status: int


@asynccontextmanager
async def connect(settings: Next) -> AsyncIterator[Upstream]:
    """The next service."""
    async with Upstream(settings.url) as upstream:
        yield upstream


following = service.resource("following", connect)


@service.endpoint("/relay")
async def relay(customer: Customer) -> Told:
    """Ask the next service the same."""
    answer = await following().post("/relay", json=customer, idempotent=True)
    return Told(answer.status_code)
'''


def write_relay(folder: Path, name: str, url: str, more: str = "") -> Path:
    write_minimal(folder, name, runtime=f'\n[runtime.resources.following]\nurl = "{url}"\n{more}')
    source = folder / "src" / f"{name}_service.py"
    source.write_text(source.read_text() + RELAY)
    return folder


@pytest.mark.slow
def test_along_a_chain_of_services_the_deadline_shrinks(tmp_path: Path) -> None:
    customer = {"tenure_days": 10.0, "mean_charge": 1.0}
    last: Neighbour

    with neighbour() as last:
        second = write_relay(tmp_path / "second", "second", last.url)
        with serving(second, store=tmp_path / "store2") as following:
            first = write_relay(tmp_path / "first", "first", f"{following.url}")
            with serving(first, store=tmp_path / "store1") as served, served.client() as client:
                answer = client.post("/relay", json=customer, headers={"x-slipway-timeout-ms": "1500"})
                assert answer.json() == {"status": 200}
                client.post("/relay", json=customer, headers={"x-slipway-timeout-ms": "0.01"})

    told_ms = [int(seen.headers["x-slipway-timeout-ms"]) for seen in last.seen]
    assert len(told_ms) == 1  # a deadline that has passed sends nobody anywhere
    assert 0 < told_ms[0] <= 1_498  # each of the two services took some of it


def test_who_is_asked_for_a_synthetic_request_is_told_so(tmp_path: Path) -> None:
    customer = {"tenure_days": 10.0, "mean_charge": 1.0}
    trusting = "\n[runtime.server]\ntrust_synthetic = true\n"

    with neighbour() as last:
        folder = write_relay(tmp_path / "first", "probed", last.url, trusting)
        with serving(folder, store=tmp_path / "store") as served, served.client() as client:
            for headers in ({"x-slipway-synthetic": "probe"}, {}):
                assert client.post("/relay", json=customer, headers=headers).json() == {"status": 200}

    assert [seen.headers.get("x-slipway-synthetic") for seen in last.seen] == ["1", None]
