"""A kubeconfig that can travel: one context of it, with what its files hold written into it.

It reads the files that a kubeconfig names, and nothing else. The invariant: the text that comes back needs no file of
this machine, so a stack that keeps it as a secret can be brought up from another machine.
Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import base64
from pathlib import Path
from typing import Any

import yaml

from slipway_bundle import UsageError
from slipway_bundle.keys import nearest

__all__ = ["KubeconfigError", "load_kubeconfig", "portable_kubeconfig"]

_FILES = ("certificate-authority", "client-certificate", "client-key")


class KubeconfigError(UsageError):
    """A kubeconfig cannot be read, or has no such context."""

    code = "kubeconfig_invalid"


def load_kubeconfig(path: Path, context: str | None) -> str:
    """The kubeconfig in the file `path`, made portable.

    Raises:
        KubeconfigError: It, or a file that it names, cannot be read; or there is no such context.
    """
    try:
        text = path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"the kubeconfig {str(path)!r} cannot be read: {error}", path=str(path)) from error
    return portable_kubeconfig(text, context, folder=path.expanduser().parent)


def portable_kubeconfig(text: str, context: str | None, *, folder: Path | None = None) -> str:
    """One context of a kubeconfig, with the files that it names inside.

    Args:
        text: YAML, as `kubectl` reads it.
        context: The name of a context; None: the current one.
        folder: What relative paths in it start from; None: a path is an error, for the text came from nowhere.

    Raises:
        KubeconfigError: As `load_kubeconfig` does. The message never holds the text.
    """
    try:
        raw = yaml.safe_load(text)
        name = context or raw["current-context"]
        contexts = {entry["name"]: entry["context"] for entry in raw["contexts"]}
        if name not in contexts:
            known = frozenset(map(str, contexts))
            raise KubeconfigError(
                f"the kubeconfig has no context {name!r}, expected one of {', '.join(sorted(known)) or 'none'}",
                hint=nearest(str(name), known),
            )
        chosen = contexts[name]
        cluster = {entry["name"]: entry["cluster"] for entry in raw["clusters"]}[chosen["cluster"]]
        user = {entry["name"]: entry["user"] for entry in raw["users"]}[chosen["user"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        # Not `from error`: YAML's own message quotes the text, which holds keys.
        raise KubeconfigError(
            f"the text is not a kubeconfig with clusters, users and contexts: {type(error).__name__}"
        ) from None
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": chosen}],
            "clusters": [{"name": chosen["cluster"], "cluster": _inlined(cluster, folder)}],
            "users": [{"name": chosen["user"], "user": _inlined(user, folder)}],
        },
        sort_keys=False,
    )


def _inlined(part: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    given = dict(part)
    for key in _FILES:
        if key in given:
            given[f"{key}-data"] = base64.b64encode(_read(given.pop(key), key, folder)).decode()
    if "tokenFile" in given:
        given["token"] = _read(given.pop("tokenFile"), "tokenFile", folder).decode().strip()
    return given


def _read(place: str, key: str, folder: Path | None) -> bytes:
    if folder is None:
        raise KubeconfigError(
            f"the kubeconfig names a file in `{key}`, expected its content",
            hint="`kubectl config view --raw --flatten --minify` writes one without files",
        )
    try:
        return (folder / place).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"the kubeconfig's `{key}` cannot be read: {error}", path=place) from error
