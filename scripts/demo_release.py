"""The demo's way to production: a bundle is signed, pushed to a registry, and pulled by digest where a policy asks for
the signature.

Production is another store, as on another machine: what it serves came through the registry. The registry is a real one
where `docker-registry` can be found, else a layout on disk, which takes the same commands. The invariant: everything is
in the demo's own folder, the key too, and ends with it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from demo_folders import scratch
from demo_screen import SLIPWAY, Teller, run_step
from monitoring import Running, eventually, find_program, free_port

STEP: Final = "release"
REGISTRY: Final = "docker-registry"
START_S: Final = 10.0
KEY: Final = "release"
POLICY: Final = f"""\
[keys.{KEY}]
file = "{KEY}.pub"

[signatures]
by = ["{KEY}"]
models = true

[folders]
allow = false
"""
CONFIG: Final = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: "{folder}"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True)
class Production:
    """Where bundles are served, and the way there."""

    registry: str
    """`HOST:PORT/churn` or `oci:FOLDER`."""

    folder: Path
    """Holds the key, `policy.toml` and the store."""

    @property
    def home(self) -> dict[str, str]:
        """The environment that makes a command use production's store."""
        return {"SLIPWAY_HOME": str(self.folder / "production")}

    @property
    def policy(self) -> Path:
        """What may be served."""
        return self.folder / "policy.toml"

    def deliver(self, ref: str, digest: str) -> str:
        """Sign, push and pull a bundle of the developer's store; its reference by digest.

        Raises:
            StepFailedError: One of the commands failed.
        """
        run_step(STEP, [*SLIPWAY, "bundle", "sign", ref, "--key", str(self.folder / f"{KEY}.key")])
        pushed = run_step(STEP, [*SLIPWAY, "bundle", "push", ref, self.registry]).strip()
        run_step(STEP, [*SLIPWAY, "bundle", "pull", pushed, "--policy", str(self.folder)], self.home)
        return f"churn@{digest}"


@contextlib.contextmanager
def production(teller: Teller) -> Iterator[Production]:
    """A registry, a key and a policy that asks for it, for the length of the block.

    Raises:
        StepFailedError: The key cannot be made.
    """
    with scratch() as folder, contextlib.ExitStack() as opened:
        run_step(STEP, [*SLIPWAY, "keys", "new", KEY, "--folder", str(folder)])
        (folder / "policy.toml").write_text(POLICY, "utf-8")
        place = _registry(folder, opened)
        if place is None:
            teller.line(f"      no {REGISTRY} here: a layout on disk takes its place")
            place = f"oci:{folder / 'registry'}"
        yield Production(place, folder)


def _registry(folder: Path, opened: contextlib.ExitStack) -> str | None:
    """A registry process on a free port; None where it cannot be had."""
    program = find_program(REGISTRY)
    if program is None:
        return None
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(CONFIG.format(folder=folder / "registry", port=port), "utf-8")
    process = Running([program, "serve", str(config)], folder / "registry.log", is_guarded=True)
    opened.callback(process.kill)

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=2).is_success
        return process.process.poll() is not None

    is_up = eventually(answers, START_S) and process.process.poll() is None
    return f"127.0.0.1:{port}/churn" if is_up else None
