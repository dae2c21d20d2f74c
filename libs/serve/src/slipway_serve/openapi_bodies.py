"""What a path takes and gives, by media type, for the OpenAPI document: JSON, forms, bare bytes, streams.

It asks `BodyForms` what is accepted, so the document and the server cannot disagree. Schemas of components are changed
only by adding: a form is a component of its own beside the Struct's. Sources: https://spec.openapis.org/oas/v3.1.1
4.8.14.4 (binary data), 4.8.15 (multipart).
"""

import itertools
from typing import Any, Final

from msgspec import inspect

from slipway_serve.bodies import FORM_TYPE, JSON_TYPE, BodyForms, PartField, part_fields
from slipway_serve.declarations import Endpoint, StreamEndpoint, StreamModel
from slipway_serve.schemas import JsonSchema
from slipway_serve.service import Declared, types_of
from slipway_serve.stream_reply import NDJSON_TYPE, SSE_TYPE

Json = dict[str, Any]

SSE_WORDS: Final = (
    "Each item is one event, `data: ITEM`; then comes `event: end`. An error after the first item is `event: error`, "
    "with the problem as its data."
)
NDJSON_WORDS: Final = 'Each item is one line of JSON. An error after the first item is a line `{"error": PROBLEM}`.'


def request_content(declared: Declared, schema: JsonSchema, components: dict[str, JsonSchema], example: Any) -> Json:
    """Media type → schema (and example, of JSON) of a request; adds the form's schema to `components`."""
    takes, _ = types_of(declared)
    as_json: Json = {"schema": schema}
    if example is not None:
        as_json["example"] = example
    if isinstance(declared, Endpoint | StreamEndpoint | StreamModel):
        forms = BodyForms(takes)
        if forms.fields:
            return {JSON_TYPE: as_json, **_more(forms, takes, schema, components)}
    return {JSON_TYPE: as_json}


def answer_content(declared: Declared, schema: JsonSchema, example: Any) -> Json:
    """Media type → schema of an answer. OpenAPI 3.1 has no word for the items of a stream, 3.2 will (`itemSchema`)."""
    if isinstance(declared, StreamModel | StreamEndpoint):
        return {
            SSE_TYPE: {"schema": {"description": SSE_WORDS, "x-slipway-item": schema}},
            NDJSON_TYPE: {"schema": {"description": NDJSON_WORDS, "x-slipway-item": schema}},
        }
    produces = declared.produces if isinstance(declared, Endpoint) else (JSON_TYPE,)
    answer: Json = {"schema": schema if produces == (JSON_TYPE,) else {"type": "string", "format": "binary"}}
    if example is not None:
        answer["example"] = example
    return dict.fromkeys(produces, answer)


def _more(forms: BodyForms, takes: Any, schema: JsonSchema, components: dict[str, JsonSchema]) -> Json:
    """The media types beside JSON."""
    name = schema["$ref"].rpartition("/")[2]
    form = _form(components[name], takes)
    named = next(f"{name}Form{suffix}" for suffix in _suffixes() if f"{name}Form{suffix}" not in components)
    components[named] = {**form, "title": named}
    content: Json = {FORM_TYPE: {"schema": {"$ref": f"#/components/schemas/{named}"}}}
    if forms.raw is not None:
        for media_type in forms.media_types[2:]:
            content[media_type] = {"schema": form["properties"][forms.raw.name]}
    return content


def _suffixes() -> itertools.chain[str]:
    return itertools.chain([""], (str(number) for number in itertools.count(2)))


def _form(component: JsonSchema, takes: Any) -> JsonSchema:
    """The same object as parts: bytes are binary, everything else keeps its schema."""
    info = inspect.type_info(takes)
    kinds = {field.encode_name: field.type for field in getattr(info, "fields", ())}
    properties = dict(component["properties"])
    for field in part_fields(takes):
        if field.kind == "bytes":
            properties[field.name] = _binary(field, kinds[field.name], properties[field.name])
    return {**component, "properties": properties}


def _binary(field: PartField, kind: inspect.Type, schema: JsonSchema) -> JsonSchema:
    """One file, or a list of them; lengths are of bytes, not of their base64."""
    binary: Json = {"type": "string", "format": "binary"}
    words = {"description": schema["description"]} if "description" in schema else {}
    if field.is_many:
        return {"type": "array", "items": binary, **words}
    for member in (kind, *getattr(kind, "types", ())):
        if isinstance(member, inspect.BytesType):
            lengths = {"minLength": member.min_length, "maxLength": member.max_length}
            binary |= {name: length for name, length in lengths.items() if length is not None}
    return {**binary, **words}
