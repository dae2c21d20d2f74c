"""What a verb asks a cluster about one rollout: itself, its pods.

It reads no field (`rollouts.py` does) and changes nothing. The invariant: each question is one call of `kubectl`, asked
when it is put, never answered from memory.
"""

from slipway_cli.kubectl import ROLLOUT, Kubectl, split_name
from slipway_cli.rollouts import Pod, Rollout, pods_of, read_rollout

__all__ = ["ask_pods", "ask_rollout", "find_rollout"]


def find_rollout(text: str, *, kubeconfig: str | None, context: str | None) -> tuple[Kubectl, Rollout]:
    """The rollout that `NAMESPACE/NAME` names, and the `kubectl` of its namespace.

    Raises:
        UsageError: It is no such name, or that rollout has another strategy than canary.
        ProgramMissingError: `kubectl` is not on the path.
        ObjectMissingError, ClusterError: As `Kubectl.get`.
    """
    namespace, name = split_name(text)
    kubectl = Kubectl(namespace, kubeconfig=kubeconfig, context=context)
    return kubectl, ask_rollout(kubectl, name)


def ask_rollout(kubectl: Kubectl, name: str) -> Rollout:
    """How it is now; raises as `Kubectl.get` and `read_rollout`."""
    return read_rollout(kubectl.get(ROLLOUT, name))


def ask_pods(kubectl: Kubectl, rollout: Rollout) -> tuple[Pod, ...]:
    """Those that its selector means, ready ones of a version first; raises as `Kubectl.list`."""
    selector = ",".join(f"{key}={value}" for key, value in sorted(rollout.selector.items()))
    return pods_of(kubectl.list("pods", selector))
