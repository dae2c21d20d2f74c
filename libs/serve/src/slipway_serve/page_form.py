"""The form that tries a path: one labelled control for each field of its request, filled in with the example.

The document's schema decides the control; static/try.js sends it and shows the answer. Every control names its place in
the request (`data-path`) and its kind, so that the script needs no schema. Bounds are hints here: the form does not
hold back a wrong value, because the server's own answer to it is worth seeing.
"""

import json
from typing import Any, Final

import msgspec

from slipway_serve.page_fields import Field, fields_of
from slipway_serve.page_markup import Html, el, prose

STEPS: Final = {"number": "any", "integer": "1"}
LINE: Final = 64
"""Characters of JSON that stay on one line."""
MAX_LINES: Final = 12


def form_of(document: dict[str, Any], path: str, *, is_first: bool) -> Html:
    """The form and the place for its answer.

    Args:
        document: the server's OpenAPI document.
        path: one of its paths with a `post`.
        is_first: the form that the address `#try` sends.
    """
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    fields = fields_of(content["schema"], document["components"]["schemas"])
    example = content.get("example")
    name = operation["operationId"]
    controls = [_control(name, field, _value(example, field.path, field.schema.get("default"))) for field in fields]
    return el(
        "form",
        el("div", controls, class_="fields"),
        el(
            "div",
            el("button", "Send", type="submit", class_="primary"),
            el("button", "Reset", type="reset"),
            el("span", el("code", f"POST {path}"), class_="quiet"),
            class_="actions",
        ),
        el("noscript", el("p", "Sending needs JavaScript; the same request by hand is in the API reference.")),
        el("div", class_="answer", data_answer=True, aria_live="polite", hidden=True),
        el(
            "details",
            el("summary", "The same request by hand"),
            el("pre", el("code", data_curl=True), tabindex="0"),
        ),
        method="post",
        action=path,
        novalidate=True,
        autocomplete="off",
        data_try=path,
        data_first=is_first,
    )


def _value(example: Any, path: tuple[str, ...], default: Any) -> Any:
    for name in path:
        if not isinstance(example, dict) or name not in example:
            return default
        example = example[name]
    return example


def _control(form: str, field: Field, value: Any) -> Html:
    """Label, control and hint of one field."""
    name = f"{form}-{'-'.join(field.path) or 'body'}"
    hint = field.type_words if field.kind != "choice" else "or null" if field.is_nullable else ""
    if field.limit_words and field.kind != "choice":
        hint = f"{hint}, {field.limit_words}"
    common: dict[str, str | bool | None] = {
        "id": name,
        "data_path": msgspec.json.encode(field.path).decode(),
        "data_kind": field.kind,
        "data_optional": not field.is_required,
        "aria_describedby": f"{name}-hint",
    }
    return el(
        "div",
        el("label", field.name or "Request", for_=name),
        el("div", _input(field, value, common), _missing(field, value, name), class_="control"),
        el("div", prose(field.description), el("p", hint[:1].upper() + hint[1:]), id=f"{name}-hint", class_="hint"),
        el("p", id=f"{name}-error", class_="error", hidden=True),
        class_="field wide" if field.kind == "json" else "field",
    )


def _input(field: Field, value: Any, common: dict[str, str | bool | None]) -> Html:
    schema = field.schema
    match field.kind:
        case "number" | "integer":
            return el(
                "input",
                type="number",
                step=STEPS[field.kind],
                inputmode="decimal",
                min=_text(schema.get("minimum")),
                max=_text(schema.get("maximum")),
                value=_text(value),
                disabled=value is None and field.is_nullable,
                **common,
            )
        case "boolean":
            return el("input", type="checkbox", checked=value is True, **common)
        case "choice":
            options = [
                el("option", str(choice), value=msgspec.json.encode(choice).decode(), selected=choice == value)
                for choice in schema["enum"]
            ]
            return el("select", options, **common)
        case "text":
            return el("input", type="text", value=_text(value), disabled=value is None and field.is_nullable, **common)
        case "bytes":
            return el("input", type="file", data_value=_text(value), **common)
        case "json":
            text = _json_text(value)
            lines = min(max(text.count("\n") + 1, 2), MAX_LINES)
            return el("textarea", text, rows=str(lines), spellcheck="false", **common)


def _json_text(value: Any) -> str:
    """JSON on one line when it is short; a list of lists has one line for each."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= LINE or not isinstance(value, list | dict):
        return text
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n]"
    return json.dumps(value, ensure_ascii=False, indent=2)


def _missing(field: Field, value: Any, name: str) -> Html | None:
    """The switch that sends null."""
    if not field.is_nullable or field.kind in {"json", "boolean", "choice"}:
        return None
    box = el("input", type="checkbox", checked=value is None, data_missing=name, aria_label=f"{field.name} is null")
    return el("label", box, "null", class_="missing")


def _text(value: object) -> str | None:
    """A JSON scalar as an attribute."""
    if value is None:
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
