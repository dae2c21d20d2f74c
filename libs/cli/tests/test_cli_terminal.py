"""How the command speaks: sizes, counts, colour, bars."""

import io
import sys
from pathlib import Path

import pytest

from slipway_cli.errors import HomeError
from slipway_cli.home import store_folder
from slipway_cli.terminal import Bar, Terminal, lines_of, size_text


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (125_883, "126 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (4e15, "4000 TB"),
    ],
)
def test_a_size_is_read_at_a_glance(size_bytes: float, text: str) -> None:
    assert size_text(size_bytes) == text


def test_counts_are_sentences() -> None:
    assert [lines_of(count, "bundle") for count in (0, 1, 2)] == ["no bundles", "1 bundle", "2 bundles"]


@pytest.mark.parametrize(
    "terminal",
    [Terminal(progress=False), Terminal(quiet=True), Terminal(json=True)],
    ids=["no-progress", "quiet", "json"],
)
def test_each_of_three_options_forbids_bars(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Tty())

    assert Terminal().shows_bars
    assert not terminal.shows_bars


def test_without_a_terminal_there_are_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    assert not Terminal().shows_bars


def test_a_bar_shows_the_step_and_its_bytes_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    bar = Bar(shown=True)
    bar.begin("pack", 2_000_000)
    bar.advance(1_000_000)

    bar.draw()
    bar.close()

    assert "pack" in stream.getvalue()
    assert "1.0/2.0" in stream.getvalue()


def test_a_step_of_unknown_length_does_not_show_the_bytes_of_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    bar = Bar(shown=True)
    bar.begin("pack", 2_000_000)
    bar.draw()
    shown = len(stream.getvalue())

    bar.begin("replay")
    bar.close()

    assert "replay" in stream.getvalue()[shown:]
    assert "/2.0" not in stream.getvalue()[shown:].rpartition("replay")[2]


def test_work_that_is_over_at_once_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    monkeypatch.setattr(sys, "stderr", stream)

    with Terminal().bar() as bar:
        bar.begin("pack", 10)
        bar.advance(10)

    assert stream.getvalue() == ""


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)

    Terminal().warn("it is late")

    assert stream.getvalue() == "warning: it is late\n"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"SLIPWAY_HOME": "/a", "XDG_DATA_HOME": "/b", "HOME": "/c"}, "/a/store"),
        ({"XDG_DATA_HOME": "/b", "HOME": "/c"}, "/b/slipway/store"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/c"}, "/c/.local/share/slipway/store"),
        ({"HOME": "/c"}, "/c/.local/share/slipway/store"),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own place")
def test_the_store_is_where_the_environment_says(environment: dict[str, str], folder: str) -> None:
    assert store_folder(environment) == Path(folder)


def test_without_any_home_the_command_says_so() -> None:
    with pytest.raises(HomeError, match="neither SLIPWAY_HOME nor HOME"):
        store_folder({})
