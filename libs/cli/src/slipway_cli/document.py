"""The OpenAPI document of a service folder or bundle: `python -m slipway_cli.document TARGET STORE OUT`.

A program for a child process, because it imports the service's code; `generation.py` starts it. It loads no weights and
opens no resource. The invariant: the document is the one that a server of the same target has at /openapi.json, less
its examples.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from slipway_bundle import SlipwayError, Store, load_service, open_any
from slipway_serve.config import load_runtime
from slipway_serve.engine import Engine, service_of
from slipway_serve.local import Unobserved
from slipway_serve.openapi import document_of


def main(arguments: Sequence[str]) -> int:
    """Writes the document, or the error as `SlipwayError.as_dict` gives it, to OUT; the exit status."""
    target, store, out = arguments
    try:
        view = open_any(target, Store.open(Path(store)))
        config, _ = load_runtime(view.runtime, {}, {})
        engine = Engine(service_of(load_service(view)), view, config, Unobserved())
        Path(out).write_bytes(msgspec.json.encode(document_of([engine])))
    except SlipwayError as error:
        Path(out).write_bytes(msgspec.json.encode(error.as_dict()))
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
