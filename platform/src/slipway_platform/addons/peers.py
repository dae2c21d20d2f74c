"""Peers of a NetworkPolicy, by the words that the platform uses for them. Pure."""

from collections.abc import Iterable

from slipway_platform.manifests import Body
from slipway_serve.admission.manifests import LABEL as POLICY_LABEL

__all__ = ["anywhere", "gate_jobs", "names", "namespace_peer", "tcp"]


def tcp(*ports: int) -> list[Body]:
    """These ports."""
    return [{"protocol": "TCP", "port": port} for port in ports]


def names() -> Body:
    """Out: to whoever answers for DNS, which is not always a pod."""
    return {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


def namespace_peer(name: str) -> Body:
    """Every pod of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def gate_jobs() -> Body:
    """The pods of the gate's Jobs, in every namespace of models."""
    return {
        "namespaceSelector": {"matchLabels": {POLICY_LABEL: "enforce"}},
        "podSelector": {"matchExpressions": [{"key": "slipway.dev/gate", "operator": "Exists"}]},
    }


def anywhere(blocks: Iterable[str] = ("0.0.0.0/0",)) -> list[Body]:
    """Addresses, in CIDR."""
    return [{"ipBlock": {"cidr": block}} for block in blocks]
