"""Where the demo keeps what only it needs; a demo that was killed leaves its folders, and the next one removes them.

How is `slipway_bundle.scratch`'s business; the name is the demo's.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from slipway_bundle import scratch as folders

PREFIX: Final = "slipway-demo-"


def scratch() -> AbstractContextManager[Path]:
    """A folder of this demo's own, removed at the end of the block."""
    return folders.scratch_folder(PREFIX)


def remove_leftovers() -> list[Path]:
    """Remove the folders of our demos that are gone; returns them. One that cannot be removed stays."""
    return folders.remove_leftovers(PREFIX)
