"""How `slipway` speaks: results on stdout, words on stderr, one JSON object when asked for.

It decides nothing and knows no verb. The invariants: stdout carries only what a program may read (plain lines, a table,
or exactly one JSON object); words, progress and errors go to stderr; nothing is said by colour alone; without a
terminal there is neither colour nor a bar. Rich is imported where it draws, so that `--help` is quick.
Source: clig.dev, "Output".
"""

import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress

BAR_AFTER_S: Final = 1.0
"""Work that ends sooner shows no bar."""

PIPE_WIDTH: Final = 140
"""Columns of a table that nobody looks at directly: a digest fits without a line break."""


class Terminal:
    """The four global options, and the ways to use them."""

    def __init__(self, *, json: bool = False, progress: bool = True, quiet: bool = False, verbose: bool = False):
        self.json = json
        self.progress = progress
        self.quiet = quiet
        self.verbose = verbose

    def result(self, line: str) -> None:
        """One line of the result, for people and pipes; nothing under `--json`."""
        if not self.json:
            click.echo(line)

    def document(self, value: object) -> None:
        """The result as one JSON object, under `--json` only; `value` is what msgspec can encode."""
        if self.json:
            click.echo(_json(value))

    def draw(self, *drawn: "RenderableType") -> None:
        """Tables and panels on stdout; nothing under `--json`."""
        if self.json:
            return
        from rich.console import Console

        if sys.stdout.isatty():
            Console(highlight=False, emoji=False).print(*drawn, sep="\n")
            return
        page = io.StringIO()
        Console(width=PIPE_WIDTH, highlight=False, emoji=False, color_system=None, file=page).print(*drawn, sep="\n")
        for line in page.getvalue().splitlines():
            click.echo(line.rstrip())

    def say(self, text: str) -> None:
        """A line of words; `--quiet` drops it."""
        if not self.quiet:
            click.echo(text, err=True)

    def insist(self, text: str) -> None:
        """A line of words that `--quiet` does not drop."""
        click.echo(text, err=True)

    def detail(self, text: str) -> None:
        """A line of words that only `--verbose` shows."""
        if self.verbose:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """A warning; shown even when quiet."""
        click.echo(f"{_tinted('warning:', 'yellow')} {text}", err=True)

    def fail(self, error: dict[str, object]) -> None:
        """An error: `{"error": …}` on stdout under `--json`, else a sentence and a hint on stderr."""
        if self.json:
            click.echo(_json({"error": error}))
            return
        click.echo(f"{_tinted('error:', 'red')} {error['message']}", err=True)
        if error.get("hint"):
            click.echo(f"{_tinted('hint:', 'cyan')} {error['hint']}", err=True)

    @property
    def shows_bars(self) -> bool:
        """Whether a bar may be drawn: a terminal, and nobody said no."""
        return self.progress and not self.quiet and not self.json and sys.stderr.isatty()

    @contextmanager
    def bar(self) -> "Iterator[Bar]":
        """A progress bar on stderr that shows itself when the work takes longer than a second."""
        bar = Bar(shown=self.shows_bars)
        try:
            yield bar
        finally:
            bar.close()


class Bar:
    """The step that is being done, and its bytes done of bytes to do; thread-safe.

    Satisfies `slipway_bundle.progress.Progress` by shape; `begin` satisfies the `announce` of `build`.
    """

    def __init__(self, *, shown: bool) -> None:
        self._lock = threading.Lock()
        self._step = ""
        self._total_bytes = 0
        self._done_bytes = 0
        self._drawn: RichProgress | None = None
        self._task: Any = None  # rich's TaskID, which is not imported here
        self._later = threading.Timer(BAR_AFTER_S, self.draw)
        self._later.daemon = True
        if shown:
            self._later.start()

    def begin(self, step: str, total_bytes: int = 0, /) -> None:
        """Another step, with so many bytes to do; 0 = nobody knows how long it takes."""
        with self._lock:
            self._step, self._total_bytes, self._done_bytes = step, total_bytes, 0
            if self._drawn is not None:  # a task of rich cannot forget its total
                self._drawn.remove_task(self._task)
                self._task = self._drawn.add_task(step, total=total_bytes or None)

    def advance(self, count_bytes: int, /) -> None:
        """`count_bytes` more are done."""
        with self._lock:
            self._done_bytes += count_bytes
            self._update()

    def close(self) -> None:
        """Take the bar away; what it said is in the words that follow."""
        self._later.cancel()
        with self._lock:
            if self._drawn is not None:
                self._drawn.stop()
                self._drawn = None

    def _update(self) -> None:
        if self._drawn is not None:
            self._drawn.update(self._task, completed=self._done_bytes)

    def draw(self) -> None:
        """Show it now, and from now on."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
        with self._lock:
            self._drawn = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._drawn.add_task(self._step, total=self._total_bytes or None)
            self._update()
            self._drawn.start()


def lines_of(count: int, noun: str) -> str:
    """`3 bundles`, `1 bundle`, `no bundles`."""
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def size_text(size_bytes: float) -> str:
    """A size as a person reads it: `812 B`, `1.4 MB` (powers of ten)."""
    if size_bytes < 1_000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size_bytes /= 1_000
        if size_bytes < 999.5 or unit == "TB":
            break
    return f"{size_bytes:.1f} {unit}" if size_bytes < 99.95 else f"{size_bytes:.0f} {unit}"


def quote(words: Sequence[str]) -> str:
    """A command as one would type it."""
    import shlex

    return shlex.join(words)


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode()


def _tinted(word: str, colour: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return word if plain else click.style(word, fg=colour, bold=True)
