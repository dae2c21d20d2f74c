"""Keys and certificates of a namespace: brought by External Secrets, made from secrets of the stack, or expected.

The invariant: no value is written down. A key is an output that Pulumi keeps as a secret, or only its place in a store
is known here.
"""

from collections.abc import Iterator, Mapping

from slipway_platform.manifests import Manifest, manifest
from slipway_platform.services.naming import KEYS, labels_of
from slipway_platform.services.settings import Keys, ServiceSettings, StackRefusedError

__all__ = ["file_secrets", "key_secret"]


def key_secret(keys: Keys, namespace: str, labels: dict[str, str]) -> Iterator[Manifest]:
    """The Secret with the keys of the verdict service; nothing where somebody else makes it."""
    if keys.store is not None:
        properties = ["read", "write", *(["signing"] if keys.is_signing else [])]
        copied = [{"secretKey": name, "remoteRef": {"key": keys.remote_key, "property": name}} for name in properties]
        yield _external(KEYS, namespace, labels, keys.store, {"data": copied})
    elif keys.read is not None and keys.write is not None:
        named = {"read": keys.read, "write": keys.write, "signing": keys.signing}
        data = {name: secret.output for name, secret in named.items() if secret is not None}
        yield manifest("v1", "Secret", KEYS, namespace, labels=labels, type="Opaque", stringData=data)


def file_secrets(service: ServiceSettings, namespace: str, keys: Keys) -> Iterator[Manifest]:
    """The Secrets that a service has as files, those that External Secrets brings.

    Raises:
        StackRefusedError: One comes from a store, and the environment names none.
    """
    for file in service.files:
        if file.remote_key is None:
            continue
        if keys.store is None:
            raise StackRefusedError(
                f"{service.name!r} has the file {file.name!r} from {file.remote_key!r}, and `keys.store` is not set",
                hint="set `keys.store` to a ClusterSecretStore, or make the Secret and leave `remote_key` out",
            )
        everything = {"dataFrom": [{"extract": {"key": file.remote_key}}]}
        yield _external(file.name, namespace, labels_of(service), keys.store, everything)


def _external(name: str, namespace: str, labels: dict[str, str], store: str, wanted: Mapping[str, object]) -> Manifest:
    spec = {
        "refreshInterval": "1h",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": store},
        "target": {"name": name, "creationPolicy": "Owner", "deletionPolicy": "Retain"},
        **wanted,
    }
    return manifest("external-secrets.io/v1", "ExternalSecret", name, namespace, labels=labels, spec=spec)
