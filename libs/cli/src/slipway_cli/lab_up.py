"""`slipway lab up`: a real Kubernetes on this machine."""

import click

from slipway_cli.lab_process import NAME, run_lab
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="up",
    short_help="Start a Kubernetes on this machine.",
    help="Start a lab: a real Kubernetes with a node, a registry, DNS, metrics, Traefik, Argo Rollouts, Prometheus and "
    "Alertmanager, in a network of its own. Needs Linux and root; builds its programs the first time. Prints the path "
    "of its kubeconfig.",
    examples=(
        ("slipway lab up --reuse", "the one that runs, or a new one"),
        ("slipway lab exec -- kubectl get nodes", "what runs inside its network"),
    ),
)
@NAME
@click.option("--reuse", is_flag=True, help="A healthy lab of this name is taken as it is.")
@click.pass_obj
def lab_up(terminal: Terminal, *, name: str, reuse: bool) -> None:
    """Start it, and say where it is."""
    found = run_lab(terminal, "up", f"--name={name}", *(("--reuse",) if reuse else ()))
    terminal.document(found)
    terminal.result(found["kubeconfig"])
