"""`slipway lab`: the verbs of a noun. They start nothing themselves (lab_process.py)."""

import click

from slipway_cli.lab_build import lab_build
from slipway_cli.lab_conform import lab_conform
from slipway_cli.lab_define import lab_define
from slipway_cli.lab_down import lab_down
from slipway_cli.lab_exec import lab_exec
from slipway_cli.lab_logs import lab_logs
from slipway_cli.lab_restart import lab_restart
from slipway_cli.lab_status import lab_status
from slipway_cli.lab_up import lab_up
from slipway_cli.verbs import VerbGroup


@click.group(
    cls=VerbGroup,
    name="lab",
    help="Run a real Kubernetes on this machine, to try and to test releases.",
    examples=(
        ("slipway lab up --reuse", "the one that runs, or a new one"),
        ("slipway lab exec -- kubectl get pods -A", "inside its network"),
        ("slipway lab down", "nothing of it is left"),
    ),
)
def lab() -> None:
    """The verbs of a noun."""


for _verb in (lab_up, lab_status, lab_exec, lab_logs, lab_restart, lab_define, lab_conform, lab_down, lab_build):
    lab.add_command(_verb)
