"""The image-admission webhook in the cluster: `slipway policy webhook`, and what makes Kubernetes ask it.

Pure: it reads `policy.toml` and the public keys that it names, and makes manifests. The invariants are those of
`slipway_serve.admission.manifests`, which makes the configuration: only labelled namespaces are judged, silence is a
no, the webhook never judges itself.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.policy import load_policy
from slipway_platform.addons.peers import anywhere, names, tcp
from slipway_platform.addons.servers import PlatformServer, Port
from slipway_platform.addons.settings import WebhookSettings
from slipway_platform.manifests import Manifest, manifest
from slipway_serve.admission.manifests import AdmissionManifests, admission_manifests

__all__ = ["NAME", "TLS_SECRET", "asking", "policy_files", "webhook_server", "webhook_service"]

NAME: Final = "slipway-policy"
TLS_SECRET: Final = "slipway-policy-tls"  # noqa: S105  # the name of a Secret
POLICY_FOLDER: Final = "/etc/slipway/policy"
TLS_FOLDER: Final = "/etc/slipway/tls"
PORT: Final = 8443


def webhook_server(settings: WebhookSettings, image: str, namespace: str, files: dict[str, str]) -> PlatformServer:
    """The server.

    Args:
        settings: Of the webhook.
        image: The platform's image by digest.
        namespace: Where it runs.
        files: What `policy_files` gave.
    """
    items = [{"key": _key(path), "path": path} for path in sorted(files)]
    return PlatformServer(
        name=NAME,
        namespace=namespace,
        image=image,
        args=(
            *("policy", "webhook", "--policy", f"{POLICY_FOLDER}/policy.toml"),
            *("--tls-cert", f"{TLS_FOLDER}/tls.crt", "--tls-key", f"{TLS_FOLDER}/tls.key"),
            *("--host", "0.0.0.0", "--port", str(PORT)),  # noqa: S104  # the NetworkPolicy says who may
            *(("--insecure",) if settings.plain_registry else ()),
        ),
        ports=(Port(name="https", number=PORT),),
        scheme="HTTPS",
        replicas=settings.replicas,
        environment=settings.environment,
        volumes=(
            {"name": "policy", "configMap": {"name": NAME, "items": items}},
            {"name": "tls", "secret": {"secretName": TLS_SECRET, "defaultMode": 0o440}},
        ),
        mounts={"policy": POLICY_FOLDER, "tls": TLS_FOLDER},
        registry_secret=settings.registry_secret,
    )


def webhook_service(server: PlatformServer, files: dict[str, str]) -> Iterator[Manifest]:
    """Everything but the certificate and what makes Kubernetes ask."""
    data = {_key(path): text for path, text in files.items()}
    yield manifest("v1", "ConfigMap", NAME, server.namespace, labels=server.labels, data=data)
    yield server.account()
    yield server.deployment()
    yield server.service()
    yield server.disruption_budget()
    # The API server has no label and no fixed address, so who may ask is said by the certificate it expects.
    yield server.network_policy([{"ports": tcp(PORT)}], [names(), {"to": anywhere()}])


def asking(namespace: str, ca: bytes | None) -> Iterator[Manifest]:
    """What makes Kubernetes ask: the webhook's configuration, and the policy that wants digests, with its binding."""
    given = AdmissionManifests(service=NAME, namespace=namespace, port=PORT, ca=ca)
    for body in yaml.safe_load_all(admission_manifests(given)):
        yield Manifest(body=body)


def policy_files(place: Path) -> dict[str, str]:
    """`policy.toml` and every public key that it names, by their path beside it.

    Raises:
        ConfigError: The policy is not valid, or names a key outside of its own folder.
        FileError: A file cannot be read.
    """
    policy = load_policy(place)
    folder = place.resolve().parent
    files = {}
    try:
        files["policy.toml"] = place.read_text()
        for name, key in policy.keys.items():
            if key.file is None:
                continue
            path = Path(key.file).resolve()
            if not path.is_relative_to(folder):
                raise ConfigError(
                    f"`keys.{name}.file` of {str(place)!r} is {key.file!r}, expected a file beside the policy",
                    hint="what goes into the cluster is the policy's folder",
                    path=str(place),
                )
            files[path.relative_to(folder).as_posix()] = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"a file of the policy {str(place)!r} cannot be read: {error}", path=str(place)) from error
    return files


def _key(path: str) -> str:
    """A key of a ConfigMap has no slash."""
    return path.replace("/", "__")
