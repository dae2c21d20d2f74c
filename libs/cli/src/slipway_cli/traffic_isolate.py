"""`slipway traffic isolate`: take one pod out of the traffic, and keep it to be looked at."""

import click

from slipway_cli.kubectl_options import cluster_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="isolate",
    short_help="Take a pod out of the traffic, and keep it.",
    help="Take a pod's labels away, so that no Service sends it requests and its ReplicaSet replaces it. It keeps "
    "running, to be looked at, until somebody deletes it. Prints its name.",
    examples=(
        ("slipway traffic isolate shop/churn --pod churn-6d5f8b-x2x4z", "one that answers slowly"),
        ("kubectl -n shop delete pod -l slipway.dev/isolated=churn", "afterwards"),
    ),
)
@click.argument("rollout", metavar="NAMESPACE/NAME")
@click.option("--pod", required=True, metavar="NAME", help="Which.")
@click.option("--anyway", is_flag=True, help="Even when it is the last ready one of its version.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent.")
@cluster_options
@click.pass_obj
def isolate_pod(
    terminal: Terminal,
    rollout: str,
    *,
    pod: str,
    anyway: bool,
    dry_run: bool,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Read, decide, patch."""
    from slipway_cli.rollout_changes import ISOLATED, isolation
    from slipway_cli.rollout_questions import ask_pods, find_rollout

    kubectl, found = find_rollout(rollout, kubeconfig=kubeconfig, context=context)
    patch = isolation(found, ask_pods(kubectl, found), pod, is_forced=anyway)
    if not dry_run:
        kubectl.patch("pod", pod, patch)
    terminal.document({"pod": pod, "patch": patch, "was_sent": not dry_run})
    terminal.result(pod)
    terminal.say(
        f"{'would lose' if dry_run else 'lost'} its traffic, and is replaced; when you are done: "
        f"kubectl --namespace {found.namespace} delete pod --selector {ISOLATED}={found.name}"
    )
