"""What access costs a request: off, then each kind of credentials, with limits and without; servers take turns.

    .venv/bin/python benchmarks/access.py                      # after benchmarks/setup.sh --small
    .venv/bin/python benchmarks/access.py --before FOLDER      # off alone, beside the libs/serve/src of another commit

The application over the bench's service, in one process on one event loop (uvloop) without sockets, 64 requests at a
time. The variants take turns, so that whatever slows the machine slows all of them; a cost is the median over the
rounds of the difference to `off`. With `--before` the turns are processes, each with the sources it was given; two
processes of the same sources differ, too, and that difference is printed beside.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import jwt
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from slipway_bundle import load_service, open_folder
from slipway_serve.app import create_app
from slipway_serve.config import load_runtime
from slipway_serve.engine import Engine
from slipway_serve.routes import ServerState
from slipway_signals import ServiceMetrics, Slots

FOLDER = Path(__file__).parent / "service"
TOGETHER = 64
REPEATS = 10
BODY = b"{" + b",".join(b'"f%d":%.4f' % (n, 0.1257 * n - 1.1) for n in range(20)) + b"}"
HEADERS = [(b"host", b"127.0.0.1:8001"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
MUCH = {"rate_per_s": 1_000_000.0, "burst": 1_000_000}
ISSUER = "https://login.example.com"
Pair = tuple[bytes, bytes]


class Variant:
    """One application, and what its callers send.

    Args:
        access: the table `[runtime.access]`.
        sent: headers of each request in turn.
    """

    def __init__(self, access: Mapping[str, Any], sent: Sequence[Pair | None]) -> None:
        view = open_folder(FOLDER)
        config, _ = load_runtime({**view.runtime, **({"access": access} if access else {})}, {}, {})
        slots, self._fd = Slots.create()
        metrics = ServiceMetrics(slots, service="bench", models=["churn"], routes=["/predict"])
        self.engine = Engine(load_service(view), view, config, metrics)  # type: ignore[arg-type]  # its own Service
        self._state = ServerState(config.limits, metrics)
        if access:
            from slipway_serve.access.entrance import Entrance
            from slipway_serve.access.usage import open_usage

            usage = open_usage(None) if config.access.has_limits else None
            entrance = Entrance([self.engine], slots, tls=None, usage_fd=usage, is_grpc=False)
            self._state = ServerState(config.limits, metrics, entrance=entrance)
        self._headers = [HEADERS if one is None else [*HEADERS, one] for one in sent]
        self._asked = 0
        self.refused = 0

    async def start(self) -> None:
        """Make it ready."""
        await self.engine.start()
        self._app = create_app([self.engine], self._state, pages=False)

    async def ask(self) -> None:
        """One request."""
        self._asked += 1
        headers = self._headers[self._asked % len(self._headers)]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "root_path": ""}
        await self._app({**scope, "state": {}, "client": ("127.0.0.1", 4711)}, _receive, self._send)

    async def turn(self) -> float:
        """µs a request, of TOGETHER concurrent ones."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        for _ in range(REPEATS):
            await asyncio.wait([loop.create_task(self.ask()) for _ in range(TOGETHER)])
        return (time.perf_counter() - started) / (REPEATS * TOGETHER) * 1e6

    async def _send(self, message: dict[str, Any]) -> None:
        self.refused += message.get("status", 200) != 200


async def _receive() -> dict[str, object]:
    return {"type": "http.request", "body": BODY, "more_body": False}


def variants(folder: Path) -> dict[str, Variant]:
    """Name → variant; all requests of all but the last are let in."""
    from slipway_serve.access.keys import new_key

    path = folder / "keys.json"
    key = new_key(path, "bench").key.encode()
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(private.public_key()).replace("{", '{"kid": "k", ', 1)
    (folder / "jwks.json").write_text(f'{{"keys": [{jwk}]}}')
    claims = {"iss": ISSUER, "aud": "bench", "sub": "bench", "exp": int(datetime.now(UTC).timestamp()) + 3_600}
    tokens = [jwt.encode({**claims, "n": n}, private, "ES256", {"kid": "k"}).encode() for n in range(8_192)]
    judged = {"jwt": {"issuer": ISSUER, "audience": "bench", "jwks": str(folder / "jwks.json")}}
    bearers = [(b"authorization", b"Bearer " + token) for token in tokens]
    sent = (b"x-api-key", key)
    return {
        "off": Variant({}, [None]),
        "key": Variant({"keys": str(path)}, [sent]),
        "key, limits": Variant({"keys": str(path), **MUCH}, [sent]),
        "key, limits, quota": Variant(
            {"keys": str(path), **MUCH, "quota_per_day": 1_000_000_000, "state": str(folder / "quotas")}, [sent]
        ),
        "jwt, seen before": Variant(judged, bearers[:1]),
        "jwt, each new": Variant(judged, bearers),
        "refused: no key": Variant({"keys": str(path)}, [None]),
        "refused: over limit": Variant({"keys": str(path), "rate_per_s": 0.001, "burst": 1}, [sent]),
    }


async def measure(rounds: int) -> dict[str, list[float]]:
    """µs a request of each variant, a number a round."""
    with tempfile.TemporaryDirectory() as folder:
        made = variants(Path(folder))
        for variant in made.values():
            await variant.start()
            await variant.turn()
        taken: dict[str, list[float]] = {name: [] for name in made}
        names = list(made)
        for number in range(rounds):
            for name in (*names[number % len(names) :], *names[: number % len(names)]):
                taken[name].append(await made[name].turn())
        for name, variant in made.items():
            if bool(variant.refused) != name.startswith("refused"):
                raise SystemExit(f"{name}: {variant.refused} requests were refused")
            await variant.engine.stop()
    return taken


async def off(rounds: int) -> float:
    """µs a request without access, the best of the rounds: of the sources that this process runs."""
    variant = Variant({}, [None])
    await variant.start()
    best = min([await variant.turn() for _ in range(rounds)])
    await variant.engine.stop()
    return best


def compare(before: Path, rounds: int) -> None:
    """Off with other sources, with ours, and with ours again, in turns."""
    ours = Path(__file__).parents[1] / "libs" / "serve" / "src"
    taken: dict[str, list[float]] = {"before": [], "now": [], "now, again": []}
    sources = {"before": before, "now": ours, "now, again": ours}
    names = list(taken)
    for number in range(rounds):
        for name in (*names[number % 3 :], *names[: number % 3]):
            environment = {**os.environ, "PYTHONPATH": str(sources[name])}
            command = [sys.executable, __file__, "--off"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            taken[name].append(float(done.stdout))
    show(taken)


def show(taken: Mapping[str, Sequence[float]]) -> None:
    """Medians, and the differences to the first, round by round."""
    first, *_ = taken
    print(f"{'variant':<22}{'µs/request':>12}{'more than ' + first:>20}{'quartiles':>18}")
    for name, mine in taken.items():
        more = [one - other for one, other in zip(mine, taken[first], strict=True)]
        low, middle, high = quantiles(more, n=4)
        difference = f"{middle:>+20.2f}{low:>+9.2f}{high:>+9.2f}" if name != first else ""
        print(f"{name:<22}{median(mine):>12.2f}{difference}")


def main() -> int:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="turns of each")
    parser.add_argument("--before", type=Path, help="sources of another commit to compare `off` with")
    parser.add_argument("--off", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.off:
        print(uvloop.run(off(60)))
    elif options.before is not None:
        compare(options.before, options.rounds)
    else:
        show(uvloop.run(measure(options.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
