"""Where slipway keeps what outlives a command: `$SLIPWAY_HOME`, or the user's data folder.

It makes no folder and reads the environment only through its argument. The invariant: the same environment gives the
same place in every verb, in the server and in the demo.
Source: XDG base directory specification 0.8.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from slipway_cli.errors import HomeError


def home_folder(environment: Mapping[str, str]) -> Path:
    """`$SLIPWAY_HOME`; else `slipway` in the user's data folder. Raises HomeError when neither is known."""
    if chosen := environment.get("SLIPWAY_HOME"):
        return Path(chosen).absolute()
    if (data := environment.get("XDG_DATA_HOME")) and Path(data).is_absolute():  # a relative one is to be ignored
        return Path(data) / "slipway"
    home = environment.get("HOME")
    if not home:
        raise HomeError(
            "no place for bundles: neither SLIPWAY_HOME nor HOME is set", hint="set SLIPWAY_HOME to a folder"
        )
    if sys.platform == "darwin":
        return Path(home) / "Library" / "Application Support" / "slipway"
    return Path(home) / ".local" / "share" / "slipway"


def store_folder(environment: Mapping[str, str]) -> Path:
    """The folder of the bundle store."""
    return home_folder(environment) / "store"
