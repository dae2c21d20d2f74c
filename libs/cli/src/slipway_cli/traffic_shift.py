"""`slipway traffic shift`: move a service's traffic by hand, in a way that the controller keeps."""

import time
from typing import TYPE_CHECKING, Final

import click

from slipway_cli.kubectl_options import cluster_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_cli.kubectl import Kubectl
    from slipway_cli.rollouts import Rollout

WAIT_S: Final = 60.0
PAUSE_S: Final = 0.5


@click.command(
    cls=Verb,
    name="shift",
    short_help="Move traffic by hand.",
    help="Move the traffic of a service that is being released: all to stable (the release is over), a weight that a "
    "step of the pipeline has (it is held there), all to the canary (the rest of the steps is skipped), or back to the "
    "pipeline, which asks the gate again. Waits until the router has it; prints the canary's weight.\n\n"
    "More than the gate has allowed needs --reason.",
    examples=(
        ("slipway traffic shift shop/churn --to stable", "the canary hurts: at once, without a question"),
        ("slipway traffic shift shop/churn --to 10", "less, and hold it"),
        ("slipway traffic shift shop/churn --to pipeline", "let the gate decide again"),
    ),
)
@click.argument("rollout", metavar="NAMESPACE/NAME")
@click.option("--to", "target", required=True, metavar="stable|canary|WEIGHT|pipeline", help="Where it goes.")
@click.option("--reason", metavar="TEXT", help="Why the canary gets more than the gate has allowed.")
@click.option("--wait-s", type=click.FloatRange(0), default=WAIT_S, show_default=True, help="0 does not wait.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent.")
@cluster_options
@click.pass_obj
def shift_traffic(
    terminal: Terminal,
    rollout: str,
    *,
    target: str,
    reason: str | None,
    wait_s: float,
    dry_run: bool,
    kubeconfig: str | None,
    context: str | None,
) -> int:
    """Read, decide, patch, wait."""
    from slipway_bundle.errors import UsageError
    from slipway_cli.kubectl import ROLLOUT
    from slipway_cli.rollout_changes import shift_to
    from slipway_cli.rollout_questions import find_rollout

    kubectl, found = find_rollout(rollout, kubeconfig=kubeconfig, context=context)
    shift = shift_to(found, target)
    if shift.is_unjudged and not reason:
        raise UsageError(
            f"the gate has not said pass for {shift.weight} of 100: the canary has {found.canary_weight}",
            hint="say why with `--reason TEXT`; it is kept on the rollout",
        )
    if not dry_run:
        if reason:
            kept = {"metadata": {"annotations": {"slipway.dev/shifted": f"{target}: {reason}"}}}
            kubectl.patch(ROLLOUT, found.name, kept)
        if shift.spec is not None:
            kubectl.patch(ROLLOUT, found.name, {"spec": shift.spec})
        if shift.status is not None:
            kubectl.patch(ROLLOUT, found.name, {"status": shift.status}, subresource="status")
    is_reached = dry_run or _is_reached(kubectl, found, shift.weight, wait_s)
    terminal.document({"rollout": rollout, "shift": shift, "was_sent": not dry_run, "is_reached": is_reached})
    terminal.say(f"{'would send' if dry_run else 'sent'}: spec {shift.spec}, status {shift.status}; {shift.text}")
    if not is_reached:
        terminal.warn(f"not there after {wait_s:g} s; `slipway traffic show {rollout}` says what it waits for")
    if shift.weight is not None:
        terminal.result(str(shift.weight))
    return 0 if is_reached else 1


def _is_reached(kubectl: "Kubectl", before: "Rollout", weight: int | None, wait_s: float) -> bool:
    """Whether the router has the weight, or there is one version left, before the time is over."""
    from slipway_cli.rollout_questions import ask_rollout

    deadline = time.monotonic() + wait_s
    while weight is not None and wait_s:
        now = ask_rollout(kubectl, before.name)
        is_promoted = weight == 100 and now.stable == before.current and not now.has_canary
        if is_promoted or (weight < 100 and now.weight in {weight, None}):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE_S)
    return True
