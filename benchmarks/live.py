"""A server that runs: what it is asked, which process computes, how its model is replaced, how it is killed.

It measures nothing. The invariant: `RELOADS` is for each server the best that its own pages offer on one machine; where
they offer nothing, the process is started again.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Self

import servers
from open_loop import NUMBER, TOLERANCE, Question, request_of
from servers import ACCEL, ADMIN_PORT, BENTO, HERE, HOME, PORT, Server, ask

QUESTIONS = 16
"""Different rows, so that an answer for another's row is a wrong one."""
VERSIONS = HOME / "ml-versions"
ADMIN = f"http://127.0.0.1:{ADMIN_PORT}"


class Live:
    """A server within `with`; afterwards nothing of it is left."""

    def __init__(self, name: str, server: Server, *, pinned: bool) -> None:
        self.name = name
        self.server = server
        self.pinned = pinned
        self.body = (HOME / server.body).read_bytes()

    def start(self) -> None:
        """Blocks until it answers. Raises RuntimeError."""
        servers.wait_for_port()
        self.process = servers.start(self.name, self.server, pinned=self.pinned)
        error = servers.wait_for(self.process, self.url, self.body)
        if error:
            raise RuntimeError(f"{self.name} did not start: {error}; see {HOME / self.name}.log")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            servers.stop_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        servers.stop(self.process.pid)
        servers.stop_all()

    @property
    def url(self) -> str:
        """Where it is asked."""
        return servers.url_of(self.server)

    def computes(self) -> int:
        """The process with the model."""
        if self.name != "slipway":
            return int((HOME / "computes").read_text())
        return self.worker(lambda name: "api" not in name and name != "dispatcher")

    def worker(self, is_it: Callable[[str], bool]) -> int:
        """Of ours, by its name."""
        workers = json.loads(ask(f"{ADMIN}/debug/workers"))["workers"]
        return next((int(worker["pid"]) for worker in workers if is_it(worker["name"]) and worker["pid"]), 0)

    def questions(self) -> list[Question]:
        """Rows whose first column differs, with their sums."""
        row = json.loads((HOME / "body.json").read_bytes())
        first = f"{row['f0']}".encode()
        rest = sum(row.values()) - row["f0"]
        firsts = [float(f"{n}.1257") for n in range(QUESTIONS)]
        bodies = [self.body.replace(first, f"{value}".encode(), 1) for value in firsts]
        pairs = zip(bodies, firsts, strict=True)
        return [Question(request_of(self.url, body), rest + value) for body, value in pairs]


def swap(live: Live) -> None:
    """`slipway swap`, without its command line. Blocks until it is over."""
    del live
    order = json.dumps({"target": str(HERE / "accel"), "service": None}).encode()
    ask(f"{ADMIN}/swap", order, **{"x-slipway-admin": "1"})
    wait_until(lambda: json.loads(ask(f"{ADMIN}/debug/rollout"))["outcome"] is not None)


def by_repository(live: Live) -> None:
    """MLServer's model repository API, with a new version of the model in the repository.

    The same version again would be less: MLServer 1.7.1 loads it without its batching (155 req/s instead of 1,300).
    """
    del live
    settings = VERSIONS / "churn" / "model-settings.json"
    model = json.loads(settings.read_bytes())
    model["parameters"] = {"version": f"v{int(model['parameters']['version'][1:]) + 1}"}
    settings.write_text(json.dumps(model))
    ask(f"http://127.0.0.1:{PORT}/v2/repository/models/churn/load", b"")


def make_repository() -> None:
    """The peers' repository of MLServer, where a version may be changed."""
    shutil.rmtree(VERSIONS, ignore_errors=True)
    shutil.copytree(HERE / "peers" / "ml", VERSIONS)
    settings = VERSIONS / "churn" / "model-settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_bytes()) | {"parameters": {"version": "v1"}}))


def by_user_config(live: Live) -> None:
    """Ray Serve's lightweight update: `serve.run` with another `user_config`, so `reconfigure` runs in the replica."""
    before = loaded_at()
    os.kill(live.process.pid, signal.SIGHUP)
    wait_until(lambda: loaded_at() != before)


def by_reload(live: Live) -> None:
    """`bentoml serve --reload`: a changed file restarts the worker behind the same socket."""
    del live
    before = loaded_at()
    (HERE / "peers" / "bento_svc.py").touch()
    wait_until(lambda: loaded_at() != before)


def by_restart(live: Live) -> None:
    """Ctrl-C, kill what is left after 2 s (LitServe waits for answers of workers that it ended), start again."""
    mine = list(servers.tree(live.process.pid))
    os.killpg(live.process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        live.process.wait(2)
    servers.end(mine, signal.SIGKILL)
    live.start()


def loaded_at() -> float:
    """When the model was loaded last."""
    return (HOME / "computes").stat().st_mtime


def wait_until(is_true: Callable[[], bool]) -> None:
    """Blocks for 30 s at most. Raises TimeoutError."""
    deadline = time.monotonic() + 30
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError("the model was not replaced within 30 s")
        time.sleep(0.05)


RELOADS: dict[str, Callable[[Live], None]] = {
    "slipway": swap,
    "bentoml-batch": by_reload,
    "litserve-batch": by_restart,
    "mlserver-batch": by_repository,
    "ray-batch": by_user_config,
}
"""How each replaces its model: the best that its own pages offer on one machine. LitServe offers nothing."""
WHILE_RELOADING = {
    "bentoml-batch": ACCEL["bentoml-batch"]._replace(command=f"{BENTO} --reload"),
    "mlserver-batch": ACCEL["mlserver-batch"]._replace(command=f"{HOME}/mlserver/bin/mlserver start {VERSIONS}"),
}


def kill(pid: int) -> None:
    """As the kernel does when memory is short."""
    if not pid:
        raise RuntimeError("the process is not there")
    os.kill(pid, signal.SIGKILL)


def check_answers(live: Live) -> None:
    """Raises RuntimeError when a server does not add up: nothing could be compared."""
    for question in live.questions():
        body = ask(live.url, question.request.partition(b"\r\n\r\n")[2])
        number = NUMBER.search(body)
        if number is None or question.answer is None or abs(float(number[0]) - question.answer) > TOLERANCE:
            raise RuntimeError(f"{live.name} answers {body!r}, expected {question.answer}")
