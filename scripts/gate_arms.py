"""Two servers to compare, each a real `slipway serve` on free ports, which end with whoever started them.

It sends nothing and judges nothing. The invariant: an address is only used when that very server has said that it is
its own. The servers believe requests that call themselves synthetic: on the loopback interface nobody else asks them.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo_screen import StepFailedError, last_lines
from monitoring import Running, eventually

START_S: Final = 60.0
BELIEVING: Final = ("env", "SLIPWAY_TRUST_SYNTHETIC=true")


@dataclass(frozen=True)
class ArmServer:
    """One arm that is up."""

    arm: str
    """`stable` or `candidate`."""

    url: str
    admin: str

    @property
    def flags(self) -> tuple[str, ...]:
        """What `slipway gate run` is told of it."""
        return (f"--{self.arm}", self.url, f"--{self.arm}-admin", self.admin)


@contextlib.contextmanager
def arm_server(arm: str, slipway: Sequence[str], target: str, folder: Path) -> Iterator[ArmServer]:
    """Serve a bundle or folder as one arm, for the length of the block.

    Args:
        arm: `stable` or `candidate`.
        slipway: The command that is `slipway`.
        target: What it serves.
        folder: Where its log goes, `ARM.log`.

    Raises:
        StepFailedError: It ended, or did not say where it is within a minute.
    """
    log = folder / f"{arm}.log"
    log.unlink(missing_ok=True)
    command = [*BELIEVING, *slipway, "serve", target, "--port", "0", "--admin-port", "0", "--drain-s", "0"]
    running = Running(command, log, is_guarded=True)
    try:

        def said(pattern: str) -> str | None:
            found = re.search(pattern, log.read_text("utf-8", "replace"), re.MULTILINE)
            return found[1] if found else None

        def is_over() -> bool:
            return running.process.poll() is not None or said(r"metrics +(http://\S+)/metrics$") is not None

        eventually(is_over, START_S)
        url, admin = said(r"at +(http://\S+)$"), said(r"metrics +(http://\S+)/metrics$")
        if url is None or admin is None or running.process.poll() is not None:
            raise StepFailedError(f"{arm} did not start", last_lines(log.read_text("utf-8", "replace")), command)
        yield ArmServer(arm=arm, url=url, admin=admin)
    finally:
        running.kill()
