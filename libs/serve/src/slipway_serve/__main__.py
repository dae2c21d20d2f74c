"""`python -m slipway_serve [TARGET…]`: `slipway serve` without the command line; the first process of an image.

Everything is set by `SLIPWAY_*`, as a container is. Without a TARGET it serves the bundle that the image holds. The
store is needed by targets that are references only; `SLIPWAY_HOME` says where it is. `SLIPWAY_POLICY` names the policy.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway_bundle import Policy, SlipwayError, load_policy
from slipway_serve.server import serve

IMAGE_ROOT = "/"
NO_HOME = "/var/lib/slipway"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until SIGTERM; the exit status."""
    store = Path(environment.get("SLIPWAY_HOME", NO_HOME)) / "store"
    try:
        named = environment.get("SLIPWAY_POLICY")
        policy = load_policy(Path(named)) if named else Policy()
        targets = arguments or (IMAGE_ROOT,)
        return serve(targets, store=store, environment=environment, flags={}, policy=policy, say=_say)
    except SlipwayError as error:
        _say(f"error: {error}")
        return error.exit_status


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
