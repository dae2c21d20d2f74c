"""Reads a JSON Schema as alternatives of one type each, which is what two schemas can be compared by.

It compares nothing (`schema_changes.py` does) and checks no value but single words and numbers of a closed set. The
invariant: what comes out accepts the same values as what went in; what says more than it can read comes out as a type
of its own, `UNKNOWN`. Source: JSON Schema 2020-12, "Core" and "Validation".
"""

import math
import re
from fractions import Fraction
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError

from slipway_bundle.shapes import SchemaError

__all__ = [
    "ANNOTATIONS",
    "BOUNDS",
    "EDGES",
    "SIZES",
    "Branch",
    "Json",
    "allows",
    "branches",
    "check_schema",
    "edge",
    "text_of",
]

Json: TypeAlias = Any
"""A JSON Schema or a part of one: builtins as a JSON decoder gives them."""

Branch: TypeAlias = dict[str, Any]
"""A schema of one type, or `{"enum": […]}`, or {}, which is anything."""

ANNOTATIONS: Final = frozenset(
    {
        "$anchor", "$comment", "$defs", "$id", "$schema", "components", "default", "definitions", "deprecated",
        "description", "discriminator", "example", "examples", "externalDocs", "readOnly", "title", "writeOnly", "xml",
    }
)  # fmt: skip
"""Keywords that refuse no value."""

BOUNDS: Final = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
SIZES: Final = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
EDGES: Final = (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1))
"""What `edge` is asked for."""

UNKNOWN: Final = "of no one type"
"""A schema that says more than its type, or none: equal to itself only."""

MAX_NESTING: Final = 32
"""References to references, and alternatives in alternatives."""

Positive: TypeAlias = Annotated[float, Meta(gt=0)]


def check_schema(schema: Json) -> None:
    """Raises SchemaError for what is no JSON Schema; what a reference leads to is checked when it is followed."""
    try:
        msgspec.convert(schema, bool | _Checked)
    except ValidationError as error:
        raise SchemaError(f"this is not a JSON Schema: {error}") from error


def branches(schema: Json, root: Json, depth: int = 0) -> list[Branch]:
    """A schema as alternatives without `$ref`, `anyOf`, `const` and lists of types; [] is a schema that nothing fits.

    Args:
        schema: what `check_schema` has checked.
        root: the document that references begin at.
        depth: of references and alternatives around it.

    Raises:
        SchemaError: A reference leads nowhere or to itself.
    """
    if depth > MAX_NESTING:
        raise SchemaError(f"a schema refers to itself, or through more than {MAX_NESTING} others")
    if isinstance(schema, bool):
        return [{}] if schema else []
    words = _says(schema)
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if words == {"$ref"}:
        return branches(_resolve(schema["$ref"], root), root, depth + 1)
    if words == {"anyOf"}:
        return [branch for part in schema["anyOf"] for branch in branches(part, root, depth + 1)]
    if words <= {"const", "enum", "type"} and len(words & {"const", "enum"}) == 1:
        values = schema.get("enum", [schema.get("const")])
        return [{"enum": [value for value in values if not kinds or any(allows({"type": k}, value) for k in kinds)]}]
    if not words:
        return [{}]
    return [_typed(schema, kind) for kind in kinds or [UNKNOWN]]


def _typed(schema: Branch, kind: str) -> Branch:
    if kind == "null":
        return {"enum": [None]}
    if kind == "boolean":
        return {"enum": [False, True]}
    return {**schema, "type": kind}


def allows(branch: Branch, value: Json) -> bool:
    """Whether a branch accepts one value for sure; an array or object only when it lists it."""
    if "enum" in branch:
        return any(text_of(value) == text_of(other) for other in branch["enum"])
    kind = branch.get("type")
    if value is None or isinstance(value, bool):
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, str):
        if kind != "string" or not _says(branch) <= {"type", "pattern", *SIZES["string"]}:
            return False
        fits = branch.get("minLength", 0) <= len(value) <= branch.get("maxLength", math.inf)
        return fits and _finds(branch.get("pattern", ""), value)
    if not isinstance(value, int | float) or not _says(branch) <= {"type", *BOUNDS}:
        return False
    is_kind = kind == "number" or (kind == "integer" and value == math.floor(value))
    step = branch.get("multipleOf", value or 1)
    is_inside = all(edge(branch, *way) <= (way[2] * value, False) for way in EDGES)
    return is_kind and is_inside and Fraction(str(value)) % Fraction(str(step)) == 0


def _finds(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # JSON Schema's patterns are ECMA's; most are Python's too
        return False


def edge(schema: Branch, bound: str, strict: str, sign: int) -> tuple[float, bool]:
    """The lowest number that fits, or the highest with its sign turned, so that a smaller edge accepts more.

    True beside it: that number itself is out, which is the larger edge of the two.
    """
    edges = [(sign * schema[word], word == strict) for word in (bound, strict) if word in schema]
    value, is_out = max(edges, default=(-math.inf, False))
    if schema.get("type") == "integer" and math.isfinite(value):
        return (math.floor(value) + 1 if is_out else math.ceil(value)), False
    return value, is_out


def text_of(value: Json) -> str:
    """A value as compact JSON, equal for equal values: 1.0 is 1, and true is not 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value, order="deterministic").decode()


def _resolve(reference: str, root: Json) -> Json:
    found = root
    try:
        for part in reference.removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
    except (KeyError, TypeError) as error:
        raise SchemaError(f"a schema refers to {reference!r}, which is not in its document") from error
    check_schema(found)
    return found


def _says(schema: Branch) -> set[str]:
    return schema.keys() - ANNOTATIONS


class _Checked(
    Struct,
    rename={
        "any_of": "anyOf", "defs": "$defs", "prefix_items": "prefixItems", "ref": "$ref",
        "additional_properties": "additionalProperties", "exclusive_minimum": "exclusiveMinimum",
        "exclusive_maximum": "exclusiveMaximum", "multiple_of": "multipleOf", "min_length": "minLength",
        "max_length": "maxLength", "min_items": "minItems", "max_items": "maxItems",
        "min_properties": "minProperties", "max_properties": "maxProperties",
    },
):  # fmt: skip
    """The keywords that are read here, and what each of them must be."""

    ref: str | UnsetType = UNSET
    defs: "dict[str, bool | _Checked] | UnsetType" = UNSET
    type: str | list[str] | UnsetType = UNSET
    enum: list[object] | UnsetType = UNSET
    any_of: "list[bool | _Checked] | UnsetType" = UNSET
    properties: "dict[str, bool | _Checked] | UnsetType" = UNSET
    required: list[str] | UnsetType = UNSET
    additional_properties: "bool | _Checked | UnsetType" = UNSET
    prefix_items: "list[bool | _Checked] | UnsetType" = UNSET
    items: "bool | _Checked | UnsetType" = UNSET
    minimum: float | UnsetType = UNSET
    exclusive_minimum: float | UnsetType = UNSET
    maximum: float | UnsetType = UNSET
    exclusive_maximum: float | UnsetType = UNSET
    multiple_of: Positive | UnsetType = UNSET
    min_length: int | UnsetType = UNSET
    max_length: int | UnsetType = UNSET
    min_items: int | UnsetType = UNSET
    max_items: int | UnsetType = UNSET
    min_properties: int | UnsetType = UNSET
    max_properties: int | UnsetType = UNSET
    pattern: str | UnsetType = UNSET
