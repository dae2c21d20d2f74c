"""JSON Schema of what a service takes and gives, out of its own types. Nothing is written by hand twice.

`schema_of` is the bare contract, as it is stored in a bundle; `components_of` is the same for people and generators:
shared components, sizes of arrays, a `type` beside each `enum`, and the string under a field as its description.
"""

import ast
import inspect as source
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_origin

import msgspec
import numpy as np
from msgspec import Struct, inspect

from slipway_bundle import TensorSpec
from slipway_bundle.row_fields import read_leaves
from slipway_bundle.shapes import SchemaError

JsonSchema = dict[str, Any]

REFERENCE: Final = "#/components/schemas/{name}"
NUMBERS: Final = {"BOOL": "boolean", "FP16": "number", "FP32": "number", "FP64": "number"}
"""JSON's word for a datatype; all others are integers."""


def schema_of(kind: type[Any]) -> dict[str, object]:
    """The JSON Schema (2020-12) of a type that msgspec can decode, or that is an array."""
    return msgspec.json.schema(kind, schema_hook=array_schema)


def array_schema(kind: type[Any]) -> dict[str, object]:
    """JSON Schema of an array type: nested lists of numbers.

    Raises:
        NotImplementedError: `kind` is no array; msgspec then reports the type by name.
    """
    if kind is np.ndarray or get_origin(kind) is np.ndarray:
        return {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "array"}]}}
    raise NotImplementedError(kind)


def components_of(kinds: Sequence[Any]) -> tuple[list[JsonSchema], dict[str, JsonSchema]]:
    """The schema of each kind, and the components that they refer to by `#/components/schemas/NAME`.

    Two Structs of one name get longer names, so several services fit into one document.
    """
    structs = list(_structs(kinds))
    schemas, components = msgspec.json.schema_components(
        [*kinds, *structs], ref_template=REFERENCE, schema_hook=array_schema
    )
    for struct, schema in zip(structs, schemas[len(kinds) :], strict=True):
        component = components[schema["$ref"].rpartition("/")[2]]
        _improve(struct, component)
    for component in [*schemas, *components.values()]:
        _type_enums(component)
    return list(schemas[: len(kinds)]), components


def array_fields(struct: type[Struct]) -> dict[str, TensorSpec]:
    """JSON name → tensor of the array fields that a Struct itself has; none when it cannot be a row."""
    try:
        leaves = read_leaves(struct, floats="FP64", missing=True)
    except SchemaError:
        return {}
    return {leaf.spec.name: leaf.spec for leaf in leaves if leaf.kind == "array"}


def field_docs(struct: type[Any]) -> dict[str, str]:
    """Field → the string literal under it (style of this house and of many others); empty without source code."""
    docs: dict[str, str] = {}
    for cls in reversed((get_origin(struct) or struct).__mro__):
        if cls in {Struct, object}:
            continue
        try:
            body = ast.parse(textwrap.dedent(source.getsource(cls))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        members = getattr(body, "body", [])
        for field, below in itertools.pairwise(members):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = source.cleandoc(text)
    return docs


def _improve(struct: type[Struct], component: JsonSchema) -> None:
    """What msgspec cannot know: sizes of arrays, and the words under fields."""
    component.setdefault("title", struct.__name__)
    properties = component.get("properties", {})
    for name, spec in array_fields(struct).items():
        properties[name] = _nested(spec)
    origin = get_origin(struct) or struct
    encoded = dict(zip(origin.__struct_fields__, origin.__struct_encode_fields__, strict=True))
    for name, text in field_docs(struct).items():
        field = properties.get(encoded.get(name, name))
        if field is not None:
            field.setdefault("description", text)


def _nested(spec: TensorSpec) -> JsonSchema:
    schema: JsonSchema = {"type": NUMBERS.get(spec.datatype, "integer")}
    buckets = spec.buckets or ((),) * len(spec.shape)
    for size, padded in zip(reversed(spec.shape), reversed(buckets), strict=True):
        sizes = {"minItems": 1, "maxItems": padded[-1]} if padded else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **({} if size == -1 and not padded else sizes)}
    return schema


def _type_enums(schema: object) -> None:
    """`enum` of strings says `type: string` too: generators and forms look there."""
    if isinstance(schema, dict):
        values = schema.get("enum")
        if isinstance(values, list) and "type" not in schema and all(isinstance(value, str) for value in values):
            schema["type"] = "string"
        for value in schema.values():
            _type_enums(value)
    elif isinstance(schema, list):
        for item in schema:
            _type_enums(item)


def _structs(kinds: Sequence[Any]) -> Iterator[type[Struct]]:
    """Every Struct that can be reached from these kinds, each once."""
    seen: set[object] = set()
    waiting: list[inspect.Type] = list(inspect.multi_type_info(kinds))
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        cls = getattr(kind, "cls", None)
        if cls is not None and not isinstance(kind, inspect.CustomType):
            if cls in seen:
                continue
            seen.add(cls)
        if isinstance(kind, inspect.StructType):
            yield kind.cls
        waiting += [field.type for field in getattr(kind, "fields", ())]
        waiting += getattr(kind, "types", ())
        waiting += getattr(kind, "item_types", ())
        waiting += [part for name in ("item_type", "key_type", "value_type") if (part := getattr(kind, name, None))]
