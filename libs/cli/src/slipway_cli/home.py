"""Where slipway keeps what outlives a command: `$SLIPWAY_HOME`, or the user's data folder; and which policy holds.

It makes no folder and reads the environment only through its argument. The invariant: the same environment gives the
same place in every verb, in the server and in the demo.
Source: XDG base directory specification 0.8.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipway_cli.errors import HomeError

if TYPE_CHECKING:
    from slipway_bundle.policy import Policy


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


def policy_of(flag: str | None, environment: Mapping[str, str]) -> "Policy":
    """The policy of `--policy`, else of `SLIPWAY_POLICY`, else of the nearest `policy.toml` here or above.

    Raises:
        ConfigError: The file is wrong.
        FileError: It is not there, or cannot be read.
    """
    from slipway_bundle.policy import load_policy

    return load_policy(Path(flag or environment.get("SLIPWAY_POLICY") or "."))
