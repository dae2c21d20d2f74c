"""Development only: watch a service's files, and ask for a rolling restart when one changes.

A broken edit keeps the old worker serving: the supervisor starts the new one first, and lets the old go when the new
one is ready.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import PythonFilter, watch

SUFFIXES: Final = (".toml", ".yaml", ".jsonl", ".ubj", ".json", ".skops", ".onnx", ".safetensors")


class Watcher:
    """A thread that calls `on_change(paths)` after files of a service changed.

    Args:
        folders: watched recursively; Python files and what a service is made of.
        on_change: called from the watching thread with the changed paths.
    """

    def __init__(self, folders: Sequence[Path], on_change: Callable[[list[str]], None]) -> None:
        self._folders = folders
        self._on_change = on_change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to watch; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; blocks until the thread is gone."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        keep = PythonFilter(extra_extensions=SUFFIXES)
        for changes in watch(*self._folders, watch_filter=keep, stop_event=self._stop, raise_interrupt=False):
            self._on_change(sorted(path for _, path in changes))
