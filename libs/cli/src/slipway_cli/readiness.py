"""What a service needs before production: each item by its name, what was found, and the command that mends it.

    for item in check_service(root, root / "services" / "churn"):
        print(item.status, item.name, item.fix)

It builds the bundle twice and serves it once, in a folder that is deleted; nothing else is written. The invariants: a
check never raises for what it is there to find; an item is ok because it was tried or read today, never because a file
says so. What is not looked at stands in `docs/ready.md`.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from slipway_bundle.errors import SlipwayError

__all__ = ["Item", "Say", "Status", "attempt", "check_service", "missing"]

Status = Literal["ok", "advice", "missing"]
"""`missing` stands in the way of production; `advice` does not."""

Say = Callable[[str], None]
"""Told what is being looked at, before it is."""


class Item(Struct, frozen=True):
    """One item of the checklist."""

    name: str
    """A stable word: programs compare it."""

    status: Status
    found: str
    fix: str | None = None
    """A command, or the line to write and where; None when nothing is to be done."""


def check_service(root: Path, folder: Path, say: Say = lambda _: None) -> tuple[Item, ...]:
    """The whole checklist of the service in `folder`; takes a few seconds more than building and starting it.

    Args:
        root: The repository: `observability/` and `runbooks/` are in there.
        folder: The service's folder, with `slipway.toml`.
        say: Told each part before it begins.

    Raises:
        ConfigError: There is no `slipway.toml`, or it cannot be read: nothing else can be known then.
    """
    from slipway_bundle.config import load_config
    from slipway_cli.readiness_package import check_package
    from slipway_cli.readiness_serving import check_serving
    from slipway_cli.readiness_signals import check_signals
    from slipway_cli.readiness_trust import check_trust

    config = load_config(folder)
    with tempfile.TemporaryDirectory(prefix="slipway-ready-") as scratch:
        home = Path(scratch)
        package = tuple(check_package(config, home, say))
        is_built = any(item.name == "artefact" and item.status == "ok" for item in package)
        say("objectives, alerts, runbooks, panels")
        signals = tuple(check_signals(root, folder))
        serving = tuple(check_serving(config, home if is_built else None, say))
    return (*package, *signals, *serving, *check_trust(config))


def attempt(name: str, look: Callable[[], Item], fix: str) -> Item:
    """What `look` finds; an error that it meets is what is missing, and its hint the way out (else `fix`)."""
    try:
        return look()
    except SlipwayError as error:
        return missing(name, error.message.splitlines()[0], error.hint or fix)


def missing(name: str, found: str, fix: str) -> Item:
    """An item that stands in the way."""
    return Item(name, "missing", found, fix)


SHOWN: Final = 4


def some(names: Iterator[str] | list[str]) -> str:
    """The first names of a list, and how many there are beside them."""
    listed = list(names)
    rest = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
