"""`slipway traffic`: what on-call does with a service's traffic in a cluster."""

import click

from slipway_cli.traffic_isolate import isolate_pod
from slipway_cli.traffic_shift import shift_traffic
from slipway_cli.traffic_show import show_traffic
from slipway_cli.verbs import VerbGroup


@click.group(
    cls=VerbGroup,
    name="traffic",
    help="See and move the traffic of a service in a cluster, during an incident. It speaks through kubectl.",
    examples=(
        ("slipway traffic show shop/churn", "who gets how much"),
        ("slipway traffic shift shop/churn --to stable", "away from the canary, at once"),
        ("slipway traffic isolate shop/churn --pod POD", "keep a bad pod to look at, without traffic"),
    ),
)
def traffic() -> None:
    """The verbs of a noun."""


for _verb in (show_traffic, shift_traffic, isolate_pod):
    traffic.add_command(_verb)
