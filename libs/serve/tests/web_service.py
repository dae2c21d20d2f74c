"""A service with every kind of field, and a server for it in this process: what the tests of protocol and pages use."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from serve_folders import train

from slipway_bundle import BundleView, load_service, open_folder
from slipway_serve.app import create_app
from slipway_serve.config import load_runtime
from slipway_serve.engine import Engine, service_of
from slipway_serve.local import Unobserved
from slipway_serve.routes import ServerState

WIDE: Final = '''"""Wide: one field of every kind & <b>"quotes"</b>.

</title><script>document.title = "pwned"</script>
"""

import enum
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from slipway_serve import F32, Arrays, Service, Shape, Weights


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(Struct, frozen=True):
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: float


class Wide(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, eq=False):
    """One row </script><img src=x onerror=alert(1)>."""

    ratio: Annotated[float, Meta(ge=0, le=1)]
    """Of something <b>bold</b>."""
    income: float | None
    count: Annotated[int, Meta(ge=0, le=1000)]
    on: bool
    word: Annotated[str, Meta(max_length=20)]
    blob: bytes
    kind: Literal["small", "large"]
    colour: Colour
    place: Place
    trio: Annotated[list[float], Meta(min_length=3, max_length=3)]
    grid: Annotated[F32, Shape(2, 3)]


class Out(Struct, frozen=True, kw_only=True, eq=False):
    """An answer."""

    ratio_twice: Annotated[float, Meta(ge=0, le=2)]
    count: int
    on: bool
    word: str
    blob: bytes
    sums: Annotated[F32, Shape(2)]


class Loud(Struct, frozen=True):
    """A request of an endpoint."""

    text: Annotated[str, Meta(min_length=1)]
    code: Annotated[str, Meta(pattern="^[A-Z]{2}$")]
    times: Annotated[int, Meta(ge=1, le=9)] = 1


class Shout(Struct, frozen=True):
    text: str


service = Service("NAME")
wide = service.model("NAME", Wide, Out, path="/wide", slo="realtime")
inner = service.model("NAME_inner", Wide, Out)


@wide.compute
@inner.compute
def echo(weights: Weights, batch: Arrays) -> Arrays:
    """What came in, twice or summed."""
    return {
        "ratio_twice": batch["ratio"] * 2,
        "count": batch["count"],
        "on": batch["on"],
        "word": batch["word"],
        "blob": batch["blob"],
        "sums": batch["grid"].sum(axis=2, dtype=np.float32),
    }


@service.endpoint("/shout")
async def shout(request: Loud) -> Shout:
    """Say it louder.

    With <i>markup</i> in its words.
    """
    return Shout(request.text.upper() * request.times)


@service.endpoint("/pixel", produces="image/png")
async def pixel(request: Loud) -> bytes:
    """Bytes that are no JSON."""
    return b"\\x89PNG" + request.text.encode()
'''

ROW: Final[dict[str, object]] = {
    "ratio": 0.25,
    "income": None,
    "count": 3,
    "on": True,
    "word": "héllo",
    "blob": "AAH/",
    "kind": "small",
    "colour": "blue",
    "place": {"lat": 1.5, "lon": 2.5},
    "trio": [1.0, 2.0, 3.0],
    "grid": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
}


def write_wide(folder: Path, name: str = "wide", runtime: str = "") -> Path:
    """The service with every kind of field; returns the folder."""
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / f"{name}_service.py").write_text(WIDE.replace("NAME", name))
    models = "".join(
        f'[bundle.models.{model}]\nfile = "model/model.ubj"\nformat = "xgboost"\n\n'
        for model in (name, f"{name}_inner")
    )
    (folder / "slipway.toml").write_text(f'entry = "{name}_service:service"\n\n{models}{runtime}')
    return folder


async def started(target: Path | BundleView) -> Engine:
    """The engine of a folder or bundle, ready."""
    view = target if isinstance(target, BundleView) else open_folder(target)
    config, _ = load_runtime(view.runtime, {}, {})
    engine = Engine(service_of(load_service(view)), view, config, Unobserved())
    await engine.start()
    return engine


class Uncounted:
    """A gauge that nobody reads."""

    def add(self, amount: float) -> None:
        """Nothing."""

    def inc(self, amount: float = 1.0) -> None:
        """Nothing."""


class Unmeasured:
    """Keeps no metrics of requests."""

    active = repeated = synthetic = Uncounted()

    def exemplify(self, route: str, method: str, status: int, seconds: float, trace_id: int, span_id: int) -> None:
        """Traces are off."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Nothing."""


class Running:
    """A server on a free port in a thread of this process."""

    def __init__(self, engines: list[Engine], server: uvicorn.Server, state: ServerState, url: str) -> None:
        self.engines = engines
        self.server = server
        self.state = state
        self.url = url
        self.address = url.removeprefix("http://")

    def client(self) -> httpx.Client:
        """A client whose paths are relative to the server."""
        return httpx.Client(base_url=self.url, timeout=20)


@contextmanager
def running(*targets: Path | BundleView, prepare: Callable[[list[Engine]], None] = lambda _: None) -> Iterator[Running]:
    """Serve folders or bundles for the length of a `with` block: real engines, real uvicorn."""
    ready = threading.Event()
    made: list[Running] = []
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def serve() -> None:
        engines = [await started(target) for target in targets]
        prepare(engines)
        state = ServerState(engines[0].config.limits, Unmeasured())
        config = uvicorn.Config(create_app(engines, state), lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        made.append(Running(engines, server, state, url))
        ready.set()
        await server.serve([listener])
        for engine in engines:
            await engine.stop()

    failed: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001  # shown to the test
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(60)
    if failed:
        raise failed[0]
    try:
        yield made[0]
    finally:
        made[0].server.should_exit = True
        thread.join(20)
        listener.close()
