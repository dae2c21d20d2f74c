"""The child processes of the bundle room: `python -m slipway_bundle describe …`, `python -m slipway_bundle replay …`.

For slipway itself, and for looking at what a child says; people use `slipway bundle`. A module of its own, because
running `slipway_bundle.replay` as a script would define each of its classes twice.
"""

import sys

from slipway_bundle.describe import main as describe
from slipway_bundle.replay import main as replay

VERBS = {"describe": describe, "replay": replay}


def main(arguments: list[str]) -> None:
    """Runs the verb that the first argument names."""
    if not arguments or arguments[0] not in VERBS:
        sys.exit(f"usage: python -m slipway_bundle {{{','.join(VERBS)}}} …")
    VERBS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
