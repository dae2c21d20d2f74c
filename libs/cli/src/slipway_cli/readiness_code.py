"""What a service's code declares, as JSON: `python -m slipway_cli.readiness_code TARGET STORE`.

A program for a child process, because it imports the service's code; `readiness_serving.py` starts it. It loads no
weights and opens no resource.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from slipway_bundle import Store, load_service, open_any
from slipway_bundle.child import answer
from slipway_bundle.redaction import read_policy
from slipway_serve.engine import service_of
from slipway_serve.service import types_of

__all__ = ["Declared"]


class Declared(Struct, frozen=True):
    """One model, stream or endpoint of a service."""

    name: str
    path: str | None
    """None for what only other endpoints use."""

    slo: str
    """The class of its deadline."""

    whole: tuple[str, ...]
    """Fields of text or bytes that capture would keep as they are."""


def main(arguments: Sequence[str]) -> None:
    """Answers with what is declared, or with the error, and ends the process."""
    target, store = arguments

    def work() -> bytes:
        service = service_of(load_service(open_any(target, Store.open(Path(store)))))
        every = [*service.models.values(), *service.streams.values(), *service.endpoints.values()]
        found = [Declared(each.name, each.path, each.slo, tuple(_whole(types_of(each)))) for each in every]
        return msgspec.json.encode(found)

    answer(work)


def _whole(types: Sequence[object]) -> list[str]:
    policies = [policy for hint in types for policy in read_policy(hint)]
    return [policy.name for policy in policies if policy.kind in {"text", "bytes"} and policy.action == "keep"]


if __name__ == "__main__":
    main(sys.argv[1:])
