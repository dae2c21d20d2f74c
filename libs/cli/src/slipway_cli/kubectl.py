"""`kubectl` as a child process: the cluster, credentials and login plugins that the caller's own `kubectl` has.

It decides nothing. The invariants: every call has a deadline; nothing is sent that was not asked for; what `kubectl`
refused is said in its own words.
"""

import json
import shutil
import subprocess
from typing import Any, Final

from slipway_bundle.errors import HostError, UsageError
from slipway_cli.errors import ProgramMissingError

PROGRAM: Final = "kubectl"
TIMEOUT_S: Final = 30.0
ROLLOUT: Final = "rollouts.argoproj.io"


class ClusterError(HostError):
    """The cluster did not answer, or refused."""

    code = "cluster"


class ObjectMissingError(UsageError):
    """The cluster has no such object, or no such kind."""

    code = "object_missing"


class Kubectl:
    """One namespace of one cluster.

    Args:
        namespace: Of everything that is asked for.
        kubeconfig: None: what `kubectl` uses.
        context: None: the current one.

    Raises:
        ProgramMissingError: `kubectl` is not on the path.
    """

    def __init__(self, namespace: str, *, kubeconfig: str | None = None, context: str | None = None) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise ProgramMissingError(
                f"the program {PROGRAM!r} is not installed, and it speaks with the cluster",
                hint="https://kubernetes.io/docs/tasks/tools/; in the lab: `slipway lab exec -- slipway traffic …`",
            )
        self._command = [program, "--namespace", namespace, f"--request-timeout={TIMEOUT_S - 5:.0f}s"]
        self._command += [] if kubeconfig is None else ["--kubeconfig", kubeconfig]
        self._command += [] if context is None else ["--context", context]

    def get(self, kind: str, name: str) -> bytes:
        """One object as JSON.

        Raises:
            ObjectMissingError: There is none of that name, or the cluster does not know the kind.
            ClusterError: No answer, or no permission.
        """
        return self._run("get", kind, name, "-o", "json")

    def list(self, kind: str, selector: str = "") -> bytes:
        """All objects of a kind, or those that `selector` means, as a JSON list; raises as `get`."""
        return self._run("get", kind, "-o", "json", *(["--selector", selector] if selector else []))

    def patch(self, kind: str, name: str, patch: object, *, how: str = "merge", subresource: str | None = None) -> None:
        """Change one object; raises as `get`."""
        words = ["patch", kind, name, "--type", how, "--patch", json.dumps(patch)]
        self._run(*words, *(["--subresource", subresource] if subresource else []), "-o", "name")

    def _run(self, *words: str) -> bytes:
        try:
            done = subprocess.run([*self._command, *words], capture_output=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClusterError(
                f"kubectl did not end: {error}", hint="is the cluster there? `kubectl version`"
            ) from error
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]
        asked: dict[str, Any] = {"kind": words[1], "name": words[2]}
        if "(NotFound)" in said or "not found" in said:
            raise ObjectMissingError(f"there is no {words[1]} {words[2]!r}: {said}", **asked)
        if "have a resource type" in said:
            hint = "is Argo Rollouts installed? `kubectl get crd rollouts.argoproj.io`"
            raise ObjectMissingError(f"the cluster does not know {words[1]}: {said}", hint=hint, **asked)
        raise ClusterError(f"kubectl {words[0]} {words[1]} failed: {said}", hint="`--context` chooses another cluster")


def split_name(text: str) -> tuple[str, str]:
    """`NAMESPACE/NAME` as both.

    Raises:
        UsageError: It is not.
    """
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise UsageError(f"{text!r} names no rollout, expected NAMESPACE/NAME", hint="for example shop/churn")
    return namespace, name
