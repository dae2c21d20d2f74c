"""The API server as the lab's own steps ask it: by kubectl to make something, by GET to look at it.

It knows no object of its own. The invariant: every call has a deadline, and one that fails says what kubectl said.
"""

import http.client
import json
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from slipway_lab import network
from slipway_lab.errors import CommandError
from slipway_lab.processes import Programs
from slipway_lab.state import Place

API_PORT: Final = 6443
LIMIT_S: Final = 180.0
MANAGER: Final = "slipway-lab"


def environment(place: Place) -> Mapping[str, str]:
    """What kubectl, and every client that reads the same variables, needs to find this lab and no other."""
    return {"KUBECONFIG": str(place.kubeconfig), "KUBECACHEDIR": str(place.folder / "kubectl")}


def begin_apply(place: Place, programs: Programs, files: Sequence[Path]) -> "subprocess.Popen[bytes]":
    """Start to apply manifests from files; `finish` waits for it. Inside the lab's network."""
    flags = [part for path in files for part in ("-f", str(path))]
    return _begin(place, programs, ("apply", *APPLY, *flags))


def finish(begun: "subprocess.Popen[bytes]", what: str) -> None:
    """Wait for what was begun. Raises CommandError: it failed, or took longer than `LIMIT_S`."""
    try:
        _, said = begun.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        begun.kill()
        begun.communicate()
        raise CommandError(f"kubectl did not apply {what} within {LIMIT_S:.0f} s") from None
    if begun.returncode:
        raise CommandError(f"kubectl could not apply {what}: {said.decode(errors='replace').strip()}")


def await_established(place: Place, programs: Programs) -> None:
    """Until the API server serves every kind that was defined. Raises CommandError: it does not within `LIMIT_S`."""
    waiting = ("wait", "crd", "--all", "--for=condition=Established", f"--timeout={LIMIT_S:.0f}s")
    finish(_begin(place, programs, waiting), "definitions")


def apply(place: Place, programs: Programs, objects: Sequence[Mapping[str, Any]], what: str) -> None:
    """Apply objects, in their order. Raises CommandError."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    command = _command(place, programs, ("apply", *APPLY, "-f", "-"))
    try:
        done = subprocess.run(
            command,
            input=document,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"kubectl did not apply {what} within {LIMIT_S:.0f} s") from None
    if done.returncode:
        raise CommandError(f"kubectl could not apply {what}: {done.stderr.strip()}")


def get(place: Place, path: str) -> Any:
    """An object as the API server has it, None where it has none. Inside the lab's network.

    Raises:
        OSError: It does not answer, or with an error.
    """
    try:
        connection = http.client.HTTPSConnection(str(network.NODE), API_PORT, timeout=5, context=context(place))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
    except http.client.HTTPException as error:
        raise OSError(f"the answer broke off: {error!r}") from error
    if answer.status == http.client.NOT_FOUND:
        return None
    if answer.status != http.client.OK:
        raise OSError(f"GET {path} was answered with {answer.status}")
    return json.loads(body)


def has_condition(found: Any, kind: str) -> bool:
    """Whether an object, as `get` gives it, has this condition with status True."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def context(place: Place) -> ssl.SSLContext:
    """The administrator, who believes this lab's authority and no other."""
    folder = place.folder / "pki"
    made = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    made.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    return made


def _begin(place: Place, programs: Programs, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = _command(place, programs, arguments)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _command(place: Place, programs: Programs, arguments: Sequence[str]) -> list[str]:
    own = (f"--kubeconfig={place.kubeconfig}", f"--cache-dir={place.folder / 'kubectl'}")
    return [str(programs["kubectl"]), *own, *arguments]


APPLY: Final = ("--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "--validate=ignore")
"""The API server judges; kubectl's own look at the schema takes a second and finds nothing more in what we write."""
