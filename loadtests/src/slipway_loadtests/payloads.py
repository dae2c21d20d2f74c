"""The inputs of a run: what is sent to which path, in which order, and what is known of the right answer.

It reads files and asks one server for its OpenAPI document; it sends no load. The invariant: the same plan, document
and files give the same inputs in the same order in every worker, so that any two runs, and both arms of one, are asked
the same. All inputs are made before the first request is due.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from slipway_bundle.errors import ConfigError, FileError
from slipway_loadtests.making import Maker
from slipway_signals.gate.answers import Leaves, read_answer
from slipway_signals.gate.load_plan import Kind, LoadPlan, Scenario

__all__ = ["Payload", "load_payloads"]

Document = Mapping[str, Any]
JSON_TYPE: Final = "application/json"


class Payload(NamedTuple):
    """One input."""

    path: str
    """That it is posted to; of the Open Inference Protocol, the model's."""
    body: bytes
    kind: Kind
    right: Leaves | None = None
    """The right answer, where it is known."""
    required: frozenset[str] = frozenset()
    """Numbers that an answer must have."""


def load_payloads(plan: LoadPlan, ask_document: Callable[[], Document]) -> list[Payload]:
    """All inputs of a plan; input `i` of the run is number `i` modulo their count.

    Args:
        plan: what is wanted of which scenario.
        ask_document: gives the OpenAPI document of the stable arm; called at most once, and only if it is needed.

    Raises:
        ConfigError: a source has nothing to send, or a line of it is no input.
        FileError: it cannot be read.
    """
    document: list[Document] = []

    def described() -> Document:
        if not document:
            document.append(ask_document())
        return document[0]

    generator = random.Random(plan.seed)  # noqa: S311  # inputs, repeatable on purpose
    supplies = [_supply(scenario, described, generator) for scenario in plan.scenarios]
    count = max(scenario.payloads.count for scenario in plan.scenarios)
    weights = [scenario.weight for scenario in plan.scenarios]
    chosen = generator.choices(range(len(supplies)), weights, k=count) if len(supplies) > 1 else [0] * count
    return [next(supplies[place]) for place in chosen]


def _supply(scenario: Scenario, described: Callable[[], Document], generator: random.Random) -> Iterator[Payload]:
    """Inputs of one scenario without end, kinds in the shares of its mix."""
    source, path = scenario.payloads.source, Path(scenario.payloads.path or "")
    required: frozenset[str] = frozenset()
    recorded: list[Payload] = []
    if source == "file":
        recorded = list(_read_lines(path, scenario))
    elif source == "capture":
        recorded = list(_read_captured(path, scenario))
    if source != "schema" and not recorded:
        raise ConfigError(f"{str(path)!r} has no input", hint="one JSON object a line")
    made = {kind for kind in scenario.shares if kind != "recorded"}
    schema: Document = {}
    example: object = None
    maker = Maker({}, generator)
    if made:
        document = described()
        maker = Maker(document["components"]["schemas"], generator)
        schema, example = _request_schema(document, scenario.path)
        required = _required_numbers(document, scenario.path)
    return _mixed(scenario, recorded, Making(maker, schema, example, required), generator)


class Making(NamedTuple):
    """What a scenario's inputs are made of."""

    maker: Maker
    schema: Document
    example: object
    required: frozenset[str]

    def make(self, kind: Kind, path: str) -> Payload:
        """One input of a kind."""
        made = {"valid": self.maker.valid, "boundary": self.maker.boundary, "invalid": self.maker.invalid}[kind]
        value = made(self.schema, self.example)
        if value is None and kind == "invalid":
            raise ConfigError(f"no invalid input can be made for {path}: its schema allows everything")
        return Payload(path, msgspec.json.encode(value), kind, None, self.required)


def _mixed(scenario: Scenario, recorded: list[Payload], making: Making, generator: random.Random) -> Iterator[Payload]:
    kinds, shares = list(scenario.shares), list(scenario.shares.values())
    place = 0
    while True:
        kind = generator.choices(kinds, shares)[0]
        if kind == "recorded":
            yield recorded[place % len(recorded)]
            place += 1
        else:
            yield making.make(kind, scenario.path)


def _request_schema(document: Document, path: str) -> tuple[Document, object]:
    """The schema of a path's JSON body, and the example that the document shows."""
    operation = document.get("paths", {}).get(path, {}).get("post")
    if operation is None:
        known = sorted(name for name, item in document.get("paths", {}).items() if "post" in item and "{" not in name)
        raise ConfigError(f"the server has no path {path!r} to post to, expected one of {', '.join(known)}")
    content = operation.get("requestBody", {}).get("content", {})
    if JSON_TYPE not in content:
        raise ConfigError(
            f"{path} takes {', '.join(content) or 'no body'}, and only JSON inputs can be made",
            hint="give a file of inputs that were sent once",
        )
    media = content[JSON_TYPE]
    examples = [shown.get("value") for shown in media.get("examples", {}).values()]
    return media.get("schema", {}), media.get("example", examples[0] if examples else None)


def _required_numbers(document: Document, path: str) -> frozenset[str]:
    """Names of the numbers at the top of an answer that it must have."""
    answer = document["paths"][path]["post"].get("responses", {}).get("200", {})
    schema = answer.get("content", {}).get(JSON_TYPE, {}).get("schema", {})
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    fields = schema.get("properties", {})
    return frozenset(
        name for name in schema.get("required", ()) if fields.get(name, {}).get("type") in {"number", "integer"}
    )


def _read_lines(path: Path, scenario: Scenario) -> Iterator[Payload]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise ConfigError(f"line {number} of {str(path)!r} is not JSON: {error}", path=str(path)) from error
        if isinstance(value, dict) and "input" in value and value.keys() <= {"model", "input", "output", "tolerance"}:
            right = None if "output" not in value else read_answer(msgspec.json.encode(value["output"]))
            yield Payload(scenario.path, msgspec.json.encode(value["input"]), "recorded", right)
        else:
            yield Payload(scenario.path, line, "recorded")


def _read_captured(path: Path, scenario: Scenario) -> Iterator[Payload]:
    """Inputs of a capture folder, in the order of its parts."""
    from slipway_signals.capture.parts import FEATURES, read_part, rows_of

    left = scenario.payloads.count
    for file in sorted(path.rglob("*.parquet")):
        part = read_part(file)
        if scenario.model is not None and part.format.model != scenario.model:
            continue
        hidden = [column.name for column in part.format.features if column.action != "keep" or column.depth]
        if hidden:
            raise ConfigError(
                f"inputs of model {part.format.model!r} cannot be sent again: {hidden[0]!r} was not kept as it was",
                hint="make inputs from the schema, or record a file of them",
            )
        names = [FEATURES + column.name for column in part.format.features]
        for row in rows_of(file, names):
            if left <= 0:
                return
            left -= 1
            yield Payload(scenario.path, msgspec.json.encode(_nested(row, FEATURES)), "recorded")


def _nested(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """`{"features.a.b": 1}` as `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for name, value in row.items():
        *parents, leaf = name.removeprefix(prefix).split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return nested
