"""Describing a service: a child process imports it and prints what it is; the builder only reads JSON.

    python -m slipway_bundle describe churn_service.service:service --path src --format churn=xgboost

It loads no weights. The invariant: whatever user code does (print, raise, hang, exit), the builder gets a
ServiceDescription or one DescribeError. Source: BentoML#2495 (a build must not import).
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from slipway_bundle.child import ChildFailedError, answer, run_child
from slipway_bundle.config import Format
from slipway_bundle.description import ServiceDescription, model_schema
from slipway_bundle.entry import load_entry
from slipway_bundle.errors import DescribeError
from slipway_bundle.schema import ModelSchema

__all__ = ["describe_service"]

TIMEOUT_S = 120.0
"""Importing a service may import a framework of a gigabyte from a cold disk."""

FORMATS: tuple[Format, ...] = get_args(Format)


def describe_service(
    entry: str, code: Path, formats: Mapping[str, Format], *, timeout_s: float = TIMEOUT_S
) -> ServiceDescription:
    """What the service says about itself, asked in a child process; blocks up to `timeout_s`.

    Args:
        entry: `package.module:object`.
        code: The folder to put on `sys.path`.
        formats: Model name -> format; the format decides how wide the floats of a row are.
        timeout_s: How long the child may take.

    Raises:
        DescribeError: The child failed or did not end in time; the message has its last lines.
    """
    arguments = [entry, "--path", str(code.resolve())]
    arguments += [f"--format={name}={kind}" for name, kind in sorted(formats.items())]
    try:
        document = run_child("describe", arguments, timeout_s=timeout_s)
    except ChildFailedError as error:
        said = f"; its last lines:\n{error.lines}" if error.lines else ""
        raise DescribeError(
            f"service {entry!r} cannot be described: {error.message}{said}",
            hint=error.hint
            or f"the same with all of its output: `python -m slipway_bundle describe {' '.join(arguments)}`",
            entry=entry,
        ) from error
    try:
        return msgspec.json.decode(document, type=ServiceDescription)
    except msgspec.DecodeError as error:
        raise DescribeError(
            f"service {entry!r} did not describe itself: {error}, got {document[:80]!r}",
            hint="the service ended its process while it was imported",
            entry=entry,
        ) from error


def _describe(entry: str, code: Path, formats: Mapping[str, Format]) -> bytes:
    service = load_entry(entry, code)
    described = service.describe()
    if not isinstance(described, ServiceDescription):
        raise DescribeError(
            f"{entry!r} is not a service: `describe()` gave {type(described).__name__!r}, expected ServiceDescription"
        )
    streams: Mapping[str, object] = getattr(service, "streams", {})  # a service without streams need not say so
    declared = {*service.models, *streams}
    if declared != formats.keys():
        raise DescribeError(
            f"slipway.toml and {entry!r} name different models: got {sorted(formats)}, expected {sorted(declared)}",
            hint="the key of `[bundle.models.NAME]` is the first argument of `service.model(NAME, …)`",
        )
    schemas = {name: model_schema(model, formats[name]) for name, model in service.models.items()}
    schemas |= {name: ModelSchema(inputs=(), outputs=()) for name in streams}  # prompts and items are no tensors
    return msgspec.json.encode(
        ServiceDescription(name=described.name, models=schemas, endpoints=described.endpoints), order="deterministic"
    )


def main(arguments: Sequence[str]) -> None:
    """The child's side."""
    parser = argparse.ArgumentParser(prog="python -m slipway_bundle describe")
    parser.add_argument("entry")
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--format", action="append", default=[], metavar="MODEL=FORMAT")
    options = parser.parse_args(arguments)
    pairs = dict(pair.split("=", 1) for pair in options.format)
    formats = msgspec.convert(pairs, dict[str, Format])
    answer(lambda: _describe(options.entry, options.path, formats))
