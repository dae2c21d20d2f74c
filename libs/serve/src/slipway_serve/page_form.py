"""The form that tries a path: one labelled control for each field of its request, filled in with the example.

The document's schema decides the control; static/try.js sends it and shows the answer. Paths that take the same file
share one form: one picture is dropped once, and each answers it. Every control names its place in
the request (`data-path`) and its kind, so that the script needs no schema. Bounds are hints here: the form does not
hold back a wrong value, because the server's own answer to it is worth seeing.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from slipway_serve.page_fields import Field, fields_of
from slipway_serve.page_markup import Html, el, prose

JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "multipart/form-data"
STEPS: Final = {"number": "any", "integer": "1"}
LINE: Final = 64
"""Characters of JSON that stay on one line."""
MAX_LINES: Final = 12


def file_request(document: dict[str, Any], path: str) -> str | None:
    """What the path takes, when that has a file in it: paths with an equal one can share a form."""
    content = document["paths"][path]["post"]["requestBody"]["content"]
    return json.dumps(content[JSON_TYPE]["schema"], sort_keys=True) if FORM_TYPE in content else None


def form_of(document: dict[str, Any], paths: Sequence[str], *, is_first: bool) -> Html:
    """The form and the places for its answers.

    Args:
        document: the server's OpenAPI document.
        paths: one of its paths with a `post`, or several that take the same; each is sent what the form holds.
        is_first: the form that the address `#try` sends.
    """
    operation = document["paths"][paths[0]]["post"]
    content = operation["requestBody"]["content"]
    components = document["components"]["schemas"]
    fields = fields_of(content.get(FORM_TYPE, content[JSON_TYPE])["schema"], components)
    is_form = FORM_TYPE in content and all(len(field.path) == 1 for field in fields)
    if not is_form:  # a form has no parts in parts
        fields = fields_of(content[JSON_TYPE]["schema"], components)
    example = content[JSON_TYPE].get("example")
    name = operation["operationId"]
    shown = sorted(paths, key=lambda path: not _is_picture(document, path))  # pictures stand on the left
    accepts = "image/*" if any(_is_picture(document, path) for path in paths) else None
    controls = [
        _control(name, field, _value(example, field.path, field.schema.get("default")), accepts) for field in fields
    ]
    return el(
        "form",
        el("div", controls, class_="fields"),
        el(
            "div",
            el("button", "Send", type="submit", class_="primary"),
            el("button", "Reset", type="reset"),
            el("span", el("code", f"POST {' '.join(paths)}"), class_="quiet"),
            class_="actions",
        ),
        el("noscript", el("p", "Sending needs JavaScript; the same request by hand is in the API reference.")),
        el(
            "div",
            [_place(path, is_one=len(paths) == 1, is_picture=_is_picture(document, path)) for path in shown],
            class_="answers" if len(paths) > 1 else None,
        ),
        el(
            "details",
            el("summary", "The same request by hand"),
            el("pre", el("code", data_curl=True), tabindex="0"),
        ),
        method="post",
        action=paths[0],
        novalidate=True,
        autocomplete="off",
        data_try=" ".join(paths),
        data_form=is_form,
        data_first=is_first,
    )


def _place(path: str, *, is_one: bool, is_picture: bool) -> Html:
    """Where the answer of a path is shown."""
    label = None if is_one else f"Answer of {path}"
    return el(
        "div",
        class_="answer",
        data_answer=path,
        data_picture=is_picture,
        aria_live="polite",
        aria_label=label,
        role=label and "group",
        hidden=True,
    )


def _is_picture(document: dict[str, Any], path: str) -> bool:
    answers = document["paths"][path]["post"]["responses"]["200"]["content"]
    return any(media_type.startswith("image/") for media_type in answers)


def _value(example: Any, path: tuple[str, ...], default: Any) -> Any:
    for name in path:
        if not isinstance(example, dict) or name not in example:
            return default
        example = example[name]
    return example


def _control(form: str, field: Field, value: Any, accepts: str | None) -> Html:
    """Label, control and hint of one field; `accepts` is what a file may be."""
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
        _file(value, accepts, common)
        if field.kind == "bytes"
        else el("div", _input(field, value, common), _missing(field, value, name), class_="control"),
        el("div", prose(field.description), el("p", hint[:1].upper() + hint[1:]), id=f"{name}-hint", class_="hint"),
        el("p", id=f"{name}-error", class_="error", hidden=True),
        class_="field wide" if field.kind in {"json", "bytes"} else "field",
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
        case _:
            text = _json_text(value)
            lines = min(max(text.count("\n") + 1, 2), MAX_LINES)
            return el("textarea", text, rows=str(lines), spellcheck="false", **common)


def _file(value: Any, accepts: str | None, common: dict[str, str | bool | None]) -> Html:
    """Where a file is dropped or chosen; it shows the picture, when it is one."""
    what = "picture" if accepts else "file"
    return el(
        "div",
        el(
            "div",
            el("p", f"Drop a {what} here, or choose one:", class_="drop-words"),
            el("input", type="file", accept=accepts, data_value=_text(value), **common),
            el("p", class_="quiet", data_file=True, hidden=True),
            class_="drop-choice",
        ),
        class_="drop",
        data_drop=True,
    )


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
