"""The fields of a JSON Schema, as forms and tables want them: one line each, with its type and limits in words.

Reads what openapi.py wrote: `$ref` into components, `anyOf` with null, bounds, `enum`. It makes no HTML. A schema that
is no object, or that is too deep, becomes one field of kind `json`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from slipway_serve.schemas import JsonSchema

Kind = Literal["number", "integer", "boolean", "text", "choice", "bytes", "json"]

MAX_DEPTH: Final = 4
BOUNDS: Final = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
UNITS: Final = ("B", "kB", "MB", "GB", "TB")
LENGTHS: Final = (
    ("minLength", "length {} or more"),
    ("maxLength", "length {} at most"),
    ("minItems", "{} items or more"),
    ("maxItems", "{} items at most"),
    ("pattern", "matches {}"),
    ("multipleOf", "a multiple of {}"),
)


class Field(Struct, frozen=True, kw_only=True):
    """One value of a request or an answer."""

    path: tuple[str, ...]
    """Names from the outermost object on; `name[]` is any item of a list."""
    kind: Kind
    schema: JsonSchema
    is_nullable: bool
    is_required: bool
    description: str

    @property
    def name(self) -> str:
        """`a.b`, as the tensors are called too."""
        return ".".join(self.path)

    @property
    def type_words(self) -> str:
        """The type, in JSON's words."""
        return f"{_type(self.schema)}{' or null' if self.is_nullable else ''}"

    @property
    def limit_words(self) -> str:
        """Its bounds, empty when there are none."""
        return ", ".join(_limits(self.schema))


def resolve(schema: Any, components: Mapping[str, Any]) -> JsonSchema:
    """The schema behind a `$ref`; what stands beside the reference wins."""
    seen = 0
    while "$ref" in schema and seen < MAX_DEPTH:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**components.get(schema["$ref"].rpartition("/")[2], {}), **beside}
        seen += 1
    return dict(schema)


def fields_of(schema: JsonSchema, components: Mapping[str, Any], *, into_lists: bool = False) -> list[Field]:
    """The fields of an object, nested objects flattened.

    Args:
        schema: of the object, or a reference to it; of anything else there is one field without a path.
        components: where references lead.
        into_lists: also the fields of objects in lists, for tables; a form edits a list as JSON.
    """
    schema = resolve(schema, components)
    if not schema.get("properties"):
        return [_field((), schema, components, is_required=True)]
    return list(_walk((), schema, components, into_lists=into_lists))


def _walk(
    path: tuple[str, ...], schema: JsonSchema, components: Mapping[str, Any], *, into_lists: bool
) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, inner in schema["properties"].items():
        field = _field((*path, name), inner, components, is_required=name in required)
        items = resolve(field.schema.get("items") or {}, components)
        if len(path) < MAX_DEPTH and field.schema.get("properties") and not field.is_nullable:
            yield from _walk(field.path, field.schema, components, into_lists=into_lists)
            continue
        yield field
        if into_lists and len(path) < MAX_DEPTH:
            below, at = (items, f"{name}[]") if items.get("properties") else (field.schema, name)
            if below.get("properties"):
                yield from _walk((*path, at), below, components, into_lists=into_lists)


def _field(path: tuple[str, ...], schema: Any, components: Mapping[str, Any], *, is_required: bool) -> Field:
    description = schema.get("description", "")
    schema = resolve(schema, components)
    choices = [resolve(choice, components) for choice in schema.get("anyOf", ())]
    rest = [choice for choice in choices if choice.get("type") != "null"]
    is_nullable = len(rest) < len(choices)
    if is_nullable and len(rest) == 1:
        schema = {**rest[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    return Field(
        path=path,
        kind=_kind(schema),
        schema=schema,
        is_nullable=is_nullable,
        is_required=is_required,
        description=description or ("" if schema.get("properties") else schema.get("description", "")),
    )


def _kind(schema: JsonSchema) -> Kind:
    if isinstance(schema.get("enum"), list):
        return "choice"
    match schema.get("type"):
        case "number":
            return "number"
        case "integer":
            return "integer"
        case "boolean":
            return "boolean"
        case "string":
            return "bytes" if schema.get("contentEncoding") == "base64" or schema.get("format") == "binary" else "text"
    return "json"


def _type(schema: JsonSchema) -> str:
    if isinstance(schema.get("anyOf"), list):
        return " or ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    if schema.get("contentEncoding") == "base64":
        return "base64 text"
    if schema.get("format") == "binary":
        return "file"
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items') or next(iter(schema.get('prefixItems', ())), {}))}"
    if isinstance(kind, str):
        return "text" if kind == "string" else kind
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else "anything"


def _limits(schema: JsonSchema) -> Iterator[str]:
    if isinstance(schema.get("enum"), list):
        yield _choices(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{shown(low)} to {shown(high)}"
    for key, sign in BOUNDS:
        if key in schema and not (key in {"minimum", "maximum"} and None not in {low, high}):
            yield f"{sign} {shown(schema[key])}"
    if schema.get("format") == "binary":
        if "maxLength" in schema:
            yield f"at most {size_words(schema['maxLength'])}"
        return
    if schema.get("minItems") is not None and schema.get("minItems") == schema.get("maxItems"):
        yield f"exactly {schema['minItems']} items"
        return
    for key, words in LENGTHS:
        if key in schema:
            yield words.format(shown(schema[key]))


def _choices(values: Sequence[object]) -> str:
    listed = ", ".join(map(str, values[:8]))
    return f"{listed}, and {len(values) - 8} more" if len(values) > 8 else listed


def size_words(size: float) -> str:
    """Bytes for a person: `10 MB`."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {UNITS[-1]}"


def shown(value: object) -> str:
    """A number for a person: `10 000`, `0.798583`; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(int(value))
    return f"{value:.6g}"
