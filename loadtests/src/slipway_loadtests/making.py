"""Makes up inputs out of a JSON Schema: valid ones, ones on an edge, and ones that break a rule.

Pure: the generator of random numbers is an argument, so the same seed makes the same inputs. It covers what msgspec
writes into an OpenAPI document: types, enums, bounds, lengths, `$ref`, `anyOf`; a text with a pattern is taken from the
document's example, never solved. The invariants: `valid` and `boundary` keep every rule of the schema; `invalid` breaks
exactly one, in one field, and is None where the schema has no rule that could be broken.
"""

import math
import operator
import random
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from slipway_bundle.errors import ConfigError

__all__ = ["Maker"]

Schema = Mapping[str, Any]
WIDEST: Final = 1_000.0
"""Numbers without a bound are made within ± this of the bound they have, or of 0."""
LONGEST_TEXT: Final = 24
LONGEST_LIST: Final = 5
DEEPEST: Final = 16
STATED: Final[Mapping[str, str]] = {
    "date-time": "2025-01-01T00:00:00Z",
    "date": "2025-01-01",
    "time": "12:00:00Z",
    "duration": "PT0S",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "decimal": "0",
}
"""Formats whose values are not random: what is served seldom depends on them."""


class Maker:
    """Makes values of one document's schemas.

    Args:
        components: `#/components/schemas` of the document.
        generator: of random numbers.
    """

    def __init__(self, components: Mapping[str, Schema], generator: random.Random) -> None:
        self._components = components
        self._random = generator

    def valid(self, schema: Schema, example: object = None) -> Any:
        """A value inside the schema; `example` is one that the document shows.

        Raises:
            ConfigError: a text has a pattern, and the example has none for it; or a schema nests without end.
        """
        return self._make(schema, example, "$", 0)

    def boundary(self, schema: Schema, example: object = None) -> Any:
        """A valid value with one field on an edge of what is allowed: a bound, a length, null, the last choice.

        Raises:
            ConfigError: as `valid`.
        """
        schema = self._resolved(schema)
        value = self.valid(schema, example)
        fields = schema.get("properties")
        if not isinstance(value, dict) or not fields:
            return self._edge(schema, value)
        edges = {name: self._edge(field, value.get(name)) for name, field in fields.items() if name in value}
        moved = [name for name, edge in edges.items() if edge != value[name]]
        if moved:
            name = self._random.choice(moved)
            value[name] = edges[name]
        return value

    def invalid(self, schema: Schema, example: object = None) -> Any | None:
        """A value that the schema refuses; None: nothing can be wrong with it.

        Raises:
            ConfigError: as `valid`.
        """
        schema = self._resolved(schema)
        value = self.valid(schema, example)
        if not isinstance(value, dict) or "properties" not in schema:
            return self._wrong(schema)
        ways: list[Callable[[], object]] = [
            partial(value.pop, name) for name in schema.get("required", ()) if name in value
        ]
        for name, field in schema["properties"].items():
            wrong = self._wrong(field)
            if wrong is not None:
                ways.append(partial(operator.setitem, value, name, wrong))
        if schema.get("additionalProperties") is False:
            ways.append(partial(operator.setitem, value, "slipway_unknown_field", 1))
        if not ways:
            return None
        self._random.choice(ways)()
        return value

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._components[schema["$ref"].rpartition("/")[2]]
        return schema

    def _make(self, schema: Schema, example: object, path: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise ConfigError(
                f"`{path}` nests in itself without end, so no input can be made", hint="give a file of inputs"
            )
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        if members := schema.get("anyOf") or schema.get("oneOf"):
            return self._make(self._random.choice(members), example, path, depth + 1)
        match schema.get("type"):
            case "object":
                return self._object(schema, example, path, depth)
            case "array":
                return self._array(schema, example, path, depth)
            case "number" | "integer":
                return self._number(schema)
            case "string":
                return self._text(schema, example, path)
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
        return example

    def _object(self, schema: Schema, example: object, path: str, depth: int) -> dict[str, Any]:
        shown = example if isinstance(example, dict) else {}
        required = set(schema.get("required", ()))
        return {
            name: self._make(field, shown.get(name), f"{path}.{name}", depth + 1)
            for name, field in schema.get("properties", {}).items()
            if name in required or self._random.random() < 0.5
        }

    def _array(self, schema: Schema, example: object, path: str, depth: int) -> list[Any]:
        if items := schema.get("prefixItems"):
            return [self._make(item, None, f"{path}[{place}]", depth + 1) for place, item in enumerate(items)]
        low = schema.get("minItems", 0)
        size = self._random.randint(low, schema.get("maxItems", low + LONGEST_LIST))
        shown = example[0] if isinstance(example, list) and example else None
        return [self._make(schema.get("items") or {}, shown, f"{path}[]", depth + 1) for _ in range(size)]

    def _number(self, schema: Schema) -> float:
        low, high = _bounds(schema)
        if low == -math.inf and high == math.inf:
            low, high = -WIDEST, WIDEST
        low = high - WIDEST if low == -math.inf else low
        high = low + WIDEST if high == math.inf else high
        is_whole = schema["type"] == "integer"
        step = schema.get("multipleOf", 1 if is_whole else None)
        if step is None:
            return self._random.uniform(low, high)
        multiple = self._random.randint(math.ceil(low / step), math.floor(high / step)) * step
        return int(multiple) if is_whole else float(multiple)

    def _text(self, schema: Schema, example: object, path: str) -> str:
        if (stated := STATED.get(schema.get("format", ""))) is not None:
            return stated
        if "pattern" in schema or "contentEncoding" in schema:
            if isinstance(example, str):
                return example
            raise ConfigError(
                f"no text can be made for `{path}`, which has the pattern {schema.get('pattern')!r}",
                hint="give a file of inputs, or a golden example to the service",
            )
        low = schema.get("minLength", 0)
        size = self._random.randint(low, max(low, min(schema.get("maxLength", LONGEST_TEXT), LONGEST_TEXT)))
        return "".join(self._random.choices(string.ascii_letters + " ", k=size))

    def _edge(self, schema: Schema, value: Any) -> Any:
        """An edge of the field's own rule; the value itself where there is none."""
        schema = self._resolved(schema)
        if members := schema.get("anyOf") or schema.get("oneOf"):
            schema = self._resolved(self._random.choice(members))
        if "enum" in schema:
            return self._random.choice((schema["enum"][0], schema["enum"][-1]))
        match schema.get("type"):
            case "null":
                return None
            case "number" | "integer" if "multipleOf" not in schema:
                edges = [bound for bound in _bounds(schema) if math.isfinite(bound)]
                edge = self._random.choice(edges) if edges else 0
                return int(edge) if schema["type"] == "integer" else float(edge)
            case "string" if "pattern" not in schema and "format" not in schema:
                return "a" * self._random.choice((schema.get("minLength", 0), schema.get("maxLength", LONGEST_TEXT)))
        return value

    def _wrong(self, schema: Schema) -> Any | None:
        """A value that the field's own rule refuses."""
        schema = self._resolved(schema)
        members = [self._resolved(member) for member in schema.get("anyOf") or schema.get("oneOf") or (schema,)]
        types = {member.get("type") for member in members}
        if None in types and not any("enum" in member or "const" in member for member in members):
            return None
        low, high = _bounds(members[0])
        beyond = [bound for bound in (low - 1.0, high + 1.0) if math.isfinite(bound)]
        if beyond and len(members) == 1 and self._random.random() < 0.5:
            return self._random.choice(beyond)
        return [["slipway"]] if types & {"string", None} or "object" in types else "slipway is not a number"


def _bounds(schema: Schema) -> tuple[float, float]:
    """The lowest and the highest allowed number; whole for integers, the next float beside an excluded bound."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    is_whole = schema.get("type") == "integer"
    if (below := schema.get("exclusiveMinimum")) is not None:
        low = max(low, below + 1 if is_whole else math.nextafter(below, math.inf))
    if (above := schema.get("exclusiveMaximum")) is not None:
        high = min(high, above - 1 if is_whole else math.nextafter(above, -math.inf))
    return low, high
