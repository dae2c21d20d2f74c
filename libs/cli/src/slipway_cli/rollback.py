"""`slipway rollback`: back to the digest before, in the stack file and, at once, in the cluster."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipway_cli.kubectl_options import cluster_options
from slipway_cli.stacks import stack_options, user_name
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_cli.kubectl import Kubectl
    from slipway_cli.rollouts import Rollout
    from slipway_signals.release.stack_files import ServiceImage, StackFile

WAIT_S: Final = 120.0
PAUSE_S: Final = 0.25


@click.command(
    cls=Verb,
    short_help="Back to the digest before.",
    help="Write the digest that SERVICE ran before into the stack file of an environment. With --now the cluster goes "
    "there at once, before any `pulumi up`: the rollout gets the pod template of the version before, without the steps "
    "of a release. Prints the reference by digest.\n\n"
    "The digest before is that of the last `slipway promote`, in releases.jsonl; --to names another one.",
    examples=(
        ("slipway rollback churn --env production --now", "in an incident: cluster first, then the file"),
        ("slipway rollback churn --env staging", "the file alone; then `pulumi up`"),
    ),
)
@click.argument("service")
@click.option("--env", "environment", required=True, metavar="ENV", help="Pulumi.ENV.yaml.")
@click.option("--to", "digest", metavar="DIGEST", help="sha256:… of the bundle.  [default: the one before]")
@click.option("--reason", metavar="TEXT", help="Why; it is kept in the record.")
@stack_options
@click.option("--now", is_flag=True, help="Also change the cluster, at once.")
@click.option("--wait-s", type=click.FloatRange(0), default=WAIT_S, show_default=True, help="With --now, at most.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@cluster_options
@click.pass_obj
def rollback(
    terminal: Terminal,
    service: str,
    *,
    environment: str,
    digest: str | None,
    reason: str | None,
    stacks: Path,
    by: str | None,
    now: bool,
    wait_s: float,
    dry_run: bool,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Find what was before; the cluster first, then the file and its record."""
    from datetime import UTC, datetime

    from slipway_signals.release.records import Release, add_release
    from slipway_signals.release.stack_files import load_stack

    stack = load_stack(stacks, environment)
    before = stack.image(service)
    after = _wanted(stack, stacks, service, before, digest)
    text = stack.with_image(service, after)
    took_s = None
    if now:
        from slipway_cli.kubectl import Kubectl

        kubectl = Kubectl(stack.namespace, kubeconfig=kubeconfig, context=context)
        took_s = go_back(kubectl, service, after.text, wait_s, is_dry=dry_run)
    if not dry_run and before != after:
        stack.write(text)
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        record = Release(
            kind="rollback",
            service=service,
            environment=environment,
            image=after.text,
            before=before.text,
            at=at,
            by=by or user_name(),
            reason=reason,
        )
        add_release(stacks, record)
    terminal.document({"image": after.text, "before": before.text, "was_written": not dry_run, "took_s": took_s})
    terminal.result(after.text)
    if took_s is not None and not dry_run:
        terminal.say(f"the cluster runs it again, after {took_s:.1f} s")
    terminal.say(f"{'would replace' if dry_run else 'replaced'} {before.text} in {stack.path}")
    if not dry_run:
        terminal.say(f"next: commit it, and `pulumi -C {stacks} -s {environment} up`")


def _wanted(
    stack: "StackFile", stacks: Path, service: str, before: "ServiceImage", digest: str | None
) -> "ServiceImage":
    """What to go back to. Raises UsageError: nobody wrote down what was before."""
    from slipway_bundle.digest import parse_digest
    from slipway_bundle.errors import UsageError
    from slipway_signals.release.records import load_releases, previous_image
    from slipway_signals.release.stack_files import ServiceImage

    if digest is not None:
        return ServiceImage(place=before.place, digest=parse_digest(digest))
    found = previous_image(load_releases(stacks), service, stack.environment, before.text)
    if found is None:
        raise UsageError(
            f"nobody wrote down what {service!r} ran in {stack.environment!r} before {before.digest}",
            hint="`--to sha256:…` names it; the stack file's history in git has it",
            service=service,
        )
    place, _, told = found.rpartition("@")
    return ServiceImage(place=place, digest=parse_digest(told))


def go_back(kubectl: "Kubectl", name: str, image: str, wait_s: float, *, is_dry: bool) -> float:
    """Make the rollout what it was with `image`; seconds until all traffic goes there.

    The pods of the version before become the template again. Where it is still the stable one, Argo Rollouts stops the
    release by itself; else it is promoted at once, when its pods are ready: nobody is sent to a pod that is not.

    Raises:
        RolloutStateError: The cluster does not know that version any more, or is not there in time.
        ObjectMissingError, ClusterError: As `Kubectl.get`.
    """
    from slipway_cli.kubectl import ROLLOUT
    from slipway_cli.rollout_changes import RolloutStateError, previous_set, template_patch
    from slipway_cli.rollout_questions import ask_rollout
    from slipway_cli.rollouts import replica_sets_of

    began = time.monotonic()
    rollout = ask_rollout(kubectl, name)
    found = previous_set(rollout, replica_sets_of(rollout, kubectl.list("replicasets.apps")), image)
    if is_dry:
        return 0.0
    if rollout.current != found.hash:
        kubectl.patch(ROLLOUT, name, template_patch(found), how="json")
    if rollout.is_held:
        kubectl.patch(ROLLOUT, name, {"spec": {"paused": False}})
    first, target = rollout.current, found.hash
    while True:
        rollout = ask_rollout(kubectl, name)
        if rollout.current not in {first, target}:
            target = rollout.current  # the controller hashes as it does; the template is what we sent
        if _is_back(rollout, target):
            return time.monotonic() - began
        if rollout.current == target and rollout.has_canary and not rollout.is_promoted:  # the controller may forget it
            kubectl.patch(ROLLOUT, name, {"status": {"promoteFull": True}}, subresource="status")
        if time.monotonic() - began >= wait_s:
            raise RolloutStateError(
                f"{rollout.namespace}/{name} is not back after {wait_s:g} s: {rollout.phase} {rollout.message}",
                hint=f"`slipway traffic show {rollout.namespace}/{name}`; the stack file was not changed",
            )
        time.sleep(PAUSE_S)


def _is_back(rollout: "Rollout", digest: str) -> bool:
    """One version, the right one, with all of the traffic."""
    return rollout.stable == rollout.current == digest and not rollout.canary_weight
