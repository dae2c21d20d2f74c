"""Replaying golden examples: the whole way of a request, without a server, compared with what was promised.

    python -m slipway_bundle replay --store ROOT --digest sha256:…

`replay` runs in the calling process, `replay_in_child` in a clean one, `check_golden` with weights that the caller has
loaded. The invariant: an example goes through the same
codecs, weights and `compute` as a request does, alone in its batch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from slipway_bundle.array_json import decode_array, encode_array
from slipway_bundle.child import ChildFailedError, answer, run_child
from slipway_bundle.description import ModelLike, ServiceLike, codecs
from slipway_bundle.digest import parse_digest
from slipway_bundle.errors import GoldenError, GoldenMismatchError, SlipwayError
from slipway_bundle.golden import Golden, Mismatch, compare
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.stored import read_descriptor
from slipway_bundle.view import BundleView, LoadedModel, load_service, open_folder, view_of
from slipway_bundle.weights import NamedWeights, adapter_for, bind_outputs, predict

__all__ = ["Example", "check_golden", "examples_by_model", "refuse_mismatches", "replay", "replay_in_child"]

Example: TypeAlias = tuple[int, Golden]
"""A golden example and its number in the file, from 1."""

TIMEOUT_S = 600.0
"""Weights of tens of gigabytes from a cold disk take minutes."""

SHOWN = 5
"""Mismatches in a message; all of them are in the report."""


def replay(view: BundleView, service: ServiceLike) -> list[Mismatch]:
    """Runs every golden example of `view`; empty when all answers are within their tolerance.

    Raises:
        GoldenError: An example names a model that the service does not have, or its input is not a row.
        SlipwayError: Weights cannot be loaded.
    """
    by_model = examples_by_model(view.golden)
    for name, examples in by_model.items():
        if name not in service.models or name not in view.models:
            line = examples[0][0]
            raise GoldenError(
                f"golden example {line} names model {name!r}, expected one of {sorted(service.models)}", line=line
            )
    mismatches: list[Mismatch] = []
    for name, examples in by_model.items():
        model, loaded = service.models[name], view.models[name]
        mismatches += check_golden(model, loaded, _load(model, loaded), examples)
    return sorted(mismatches, key=lambda mismatch: mismatch.line)


def examples_by_model(golden: Sequence[Golden]) -> dict[str, list[Example]]:
    """Model -> its examples; the number of an example is its place in the golden file."""
    found: dict[str, list[Example]] = {}
    for line, example in enumerate(golden, start=1):
        found.setdefault(example.model, []).append((line, example))
    return found


def check_golden(
    model: ModelLike, loaded: LoadedModel, weights: NamedWeights, examples: Sequence[Example]
) -> list[Mismatch]:
    """Runs a model's examples with weights that are loaded already: what a runner does before it says it is ready.

    Args:
        model: The declaration.
        loaded: The model's configuration, for the codecs and `outputs`.
        weights: As the format's adapter loaded them, on whatever device.
        examples: Of this model.

    Raises:
        GoldenError: An input is not a row of the model.
        WeightsError: A field of the answer has no output.
    """
    checker = _Checker(model, loaded, weights)
    return [found for line, example in examples if (found := checker.compare(line, example)) is not None]


def replay_in_child(store: Store, bundle: Descriptor, *, timeout_s: float = TIMEOUT_S) -> list[Mismatch]:
    """The same for a bundle in the store, published or not, in a clean child process; blocks up to `timeout_s`.

    Raises:
        GoldenMismatchError: The examples could not be run at all; the message has the child's last lines.
        HostError: This machine cannot run them, for example without the library of a format.
    """
    arguments = ["--store", str(store.root), "--digest", bundle.digest, "--size", str(bundle.size)]
    try:
        document = run_child("replay", arguments, timeout_s=timeout_s)
    except ChildFailedError as error:
        said = f"; the last lines of the child process:\n{error.lines}" if error.lines else ""
        raise GoldenMismatchError(
            f"the golden examples could not be replayed: {error.message}{said}", hint=error.hint
        ) from error
    try:
        return msgspec.json.decode(document, type=list[Mismatch])
    except msgspec.DecodeError as error:
        raise GoldenMismatchError(
            f"the golden examples could not be replayed: the child process ended early, got {document[:80]!r}"
        ) from error


def refuse_mismatches(mismatches: Sequence[Mismatch], examples: int) -> None:
    """Raises GoldenMismatchError when there is a mismatch; the message lists the first ones."""
    if not mismatches:
        return
    listed = "\n".join(f"  {mismatch}" for mismatch in mismatches[:SHOWN])
    more = f"\n  and {len(mismatches) - SHOWN} more" if len(mismatches) > SHOWN else ""
    raise GoldenMismatchError(
        f"{len(mismatches)} of {examples} golden examples did not replay:\n{listed}{more}",
        hint="the weights, the code or a library changed since the examples were written; "
        "if the new answers are right, write the examples again",
        failed=len(mismatches),
        examples=examples,
    )


class _Checker:
    """One model, loaded."""

    def __init__(self, model: ModelLike, loaded: LoadedModel, weights: NamedWeights) -> None:
        self._model = model
        self._weights = weights
        self._inputs, self._outputs = codecs(model, loaded.config.format)
        self._bound: dict[str, str] = {}
        if model.function is None:
            fields = [spec.name for spec in self._outputs.specs]
            self._bound = bind_outputs(loaded.config.outputs, weights.outputs, fields)

    def compare(self, line: int, golden: Golden) -> Mismatch | None:
        """The first difference between an example and the model's answer."""
        try:
            row = msgspec.json.decode(golden.input, type=self._model.row, dec_hook=decode_array)
        except msgspec.DecodeError as error:
            raise GoldenError(
                f"the input of golden example {line} is not a row of model {golden.model!r}: {error}",
                hint="the schema changed after the examples were written",
                line=line,
            ) from error
        expected = msgspec.json.decode(golden.output)
        try:
            got = msgspec.to_builtins(self._answer(row), enc_hook=encode_array)
        except SlipwayError as error:
            shown = msgspec.json.encode(expected).decode()
            return Mismatch(model=golden.model, line=line, path="$", expected=shown, got=error.message)
        difference = compare(got, expected, golden.tolerance)
        if difference is None:
            return None
        path, shown_got, shown_expected = difference
        return Mismatch(model=golden.model, line=line, path=path, expected=shown_expected, got=shown_got)

    def _answer(self, row: Struct) -> Struct:
        self._inputs.check(row)
        key, payload = self._inputs.pack_keyed(row)
        batch = self._inputs.batch([payload], key)
        if self._model.function is None:
            arrays = predict(self._weights, self._bound, batch)
        else:
            arrays = self._model.function(self._weights, batch)
        answered = self._outputs.rows(arrays)[0]
        if isinstance(answered, SlipwayError):
            raise answered
        found: Struct = answered
        return found


def _load(model: ModelLike, loaded: LoadedModel) -> NamedWeights:
    specs = codecs(model, loaded.config.format)[0].specs if model.function is None else ()
    return adapter_for(loaded.config.format).load(loaded.file, loaded.config, specs)


def _replay(options: argparse.Namespace) -> bytes:
    if options.folder is not None:
        view = open_folder(options.folder)
    else:
        store = Store.open(options.store)
        descriptor = Descriptor(media_type="", digest=parse_digest(options.digest), size=options.size)
        view = view_of(store, read_descriptor(store, descriptor))
    return msgspec.json.encode(replay(view, load_service(view)))


def main(arguments: Sequence[str]) -> None:
    """The child's side."""
    parser = argparse.ArgumentParser(prog="python -m slipway_bundle replay")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--folder", type=Path)
    place.add_argument("--store", type=Path)
    parser.add_argument("--digest", help="of the bundle's index, with --store")
    parser.add_argument("--size", type=int, default=0)
    options = parser.parse_args(arguments)
    answer(lambda: _replay(options))
