"""A workshop in a temporary folder, whose Go is a script that writes down what it was asked."""

from pathlib import Path
from typing import Final

from slipway_lab.workshop import Workshop

BUILDS: Final = """#!/bin/sh
echo "$@" >> {log}
while [ "$1" != -o ]; do shift; done
printf program > "$2"
"""
"""Builds any program: a file of seven bytes where `-o` says."""


def make_workshop(folder: Path, go: str = BUILDS, version: str = "go1.26.8 linux amd64") -> Workshop:
    """A workshop with the sources of one program, `pause`, and a Go that does what the shell script `go` says.

    Args:
        folder: empty; what the script is asked stands in its `asked.log`.
        go: with `{log}` where the name of that file belongs.
        version: what the workshop believes of its Go.
    """
    source = folder / "tools" / "pause"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module slipway.dev/tools/pause\n\ngo 1.26.0\n")
    (source / "go.sum").write_text("")
    (source / "main.go").write_text("package main\n\nfunc main() {}\n")
    program = folder / "go"
    program.write_text(go.format(log=folder / "asked.log"))
    program.chmod(0o755)
    return Workshop(go=program, go_version=version, tools=folder / "tools", cache=folder / "cache")


def asked(workshop: Workshop) -> list[str]:
    """What the script was asked to do, one command line each."""
    log = workshop.go.with_name("asked.log")
    return log.read_text().splitlines() if log.exists() else []
