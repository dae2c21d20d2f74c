"""Which cluster a verb speaks with, in the words of `kubectl`. It imports nothing heavy, so that help is quick."""

from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def cluster_options(command: F) -> F:
    """Which cluster, as `kubectl` itself is told."""
    command = click.option("--context", metavar="NAME", help="Of the kubeconfig.  [default: the current one]")(command)
    return click.option("--kubeconfig", metavar="FILE", help="As of kubectl.")(command)
