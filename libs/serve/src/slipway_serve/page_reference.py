"""`/docs`: the OpenAPI document as one readable page.

Made here and not with Swagger UI: the packages that ship its files for offline use are years behind (swagger-ui-bundle
1.1.0 has Swagger UI 4, which cannot read OpenAPI 3.1), weigh 8 MB, and need inline scripts. This page needs no script.
"""

from typing import Any, Final

import msgspec

from slipway_serve.page_fields import fields_of
from slipway_serve.page_markup import Child, Html, el, path_words, prose, table

Document = dict[str, Any]
FORM_TYPE: Final = "multipart/form-data"
METHODS: Final = ("get", "post")


def reference_of(document: Document) -> list[Html]:
    """The body of the page."""
    operations = _operations(document)
    about = {tag["name"]: tag.get("description", "") for tag in document["tags"]}
    words = prose(document["info"].get("description", ""))
    titles = el(
        "div", el("h1", "API reference"), el("p", document["info"]["title"], class_="lead"), words, class_="title"
    )
    sections = [
        el(
            "section",
            el("h2", _tag_words(tag)),
            prose(about.get(tag, ""), class_="quiet")
            if about.get(tag) != document["info"].get("description")
            else None,
            [_operation(document, *operation) for operation in members],
            id=f"tag-{tag}",
        )
        for tag, members in operations.items()
    ]
    return [el("div", _contents(operations), el("main", titles, sections, class_="reference"), class_="with-contents")]


def _operations(document: Document) -> dict[str, list[tuple[str, str, Document]]]:
    """Tag → (method, path, operation), in the document's order."""
    tags: dict[str, list[tuple[str, str, Document]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
                tags[operation["tags"][0]].append((method, path, {**operation, "parameters": parameters}))
    return {tag: members for tag, members in tags.items() if members}


def _tag_words(tag: str) -> str:
    return tag.replace("_", " ").capitalize() if "_" in tag else tag


def _contents(operations: dict[str, list[tuple[str, str, Document]]]) -> Html:
    groups = [
        el(
            "li",
            el("span", _tag_words(tag), class_="group"),
            el(
                "ul",
                [
                    el(
                        "li",
                        el(
                            "a",
                            _method(method),
                            el("span", path_words(path), class_="break"),
                            href=f"#{item['operationId']}",
                        ),
                    )
                    for method, path, item in members
                ],
            ),
        )
        for tag, members in operations.items()
    ]
    return el("nav", el("ul", groups), class_="contents", aria_label="Paths")


def _method(method: str) -> Html:
    return el("span", method.upper(), class_=f"method {method}")


def _operation(document: Document, method: str, path: str, operation: Document) -> Html:
    return el(
        "article",
        el("h3", _method(method), el("code", path_words(path), class_="break")),
        el("p", operation["summary"], class_="summary"),
        prose(operation.get("description", "")),
        _parameters(document, operation),
        _request(document, path, operation),
        _responses(document, operation),
        class_="panel",
        id=operation["operationId"],
    )


def _parameters(document: Document, operation: Document) -> Child:
    """Path parameters and headers."""
    rows: list[tuple[Child, ...]] = []
    for given in operation["parameters"]:
        parameter = given
        if "$ref" in given:
            parameter = document["components"]["parameters"][given["$ref"].rpartition("/")[2]]
        field = fields_of(parameter["schema"], {})[0]
        where = f"{parameter['in']}, {'required' if parameter.get('required') else 'optional'}"
        kind = ", ".join(filter(None, (field.type_words, field.limit_words)))
        rows.append((parameter["name"], where, kind, prose(parameter.get("description", ""))))
    return table("Parameters", ("Name", "Where", "Type", "Meaning"), rows) if rows else None


def _request(document: Document, path: str, operation: Document) -> Child:
    body = operation.get("requestBody")
    if body is None:
        return None
    content = body["content"]["application/json"]
    return [
        _fields("Request", document, content["schema"]),
        _files(document, path, body["content"]),
        _example(f"curl -s $HOST{path} \\\n  -H 'content-type: application/json' \\\n  -d ", content.get("example")),
    ]


def _files(document: Document, path: str, content: Document) -> Child:
    """How a file is sent, where the path takes one."""
    if FORM_TYPE not in content:
        return None
    fields = fields_of(content[FORM_TYPE]["schema"], document["components"]["schemas"])
    parts = " ".join(
        f"-F {field.name}={'@FILE' if field.schema.get('format') == 'binary' else '…'}"
        for field in fields
        if field.is_required
    )
    commands = [f"curl -s $HOST{path} {parts}"]
    if bare := [media_type for media_type in content if media_type not in {FORM_TYPE, "application/json"}]:
        commands.append(f"curl -s $HOST{path} -H 'content-type: {bare[0]}' --data-binary @FILE")
    return [
        el(
            "p",
            "A file goes as a form, as the bare body, or in JSON as base64:"
            if bare
            else "A file goes as a form, or in JSON as base64:",
        ),
        [el("pre", el("code", command), tabindex="0", class_="wrap") for command in commands],
    ]


def _example(command: str, example: Any) -> Child:
    """A command to copy; the request is quoted for a shell."""
    if example is None:
        return None
    text = msgspec.json.encode(example).decode().replace("'", "'\\''")
    return el("pre", el("code", f"{command}'{text}'"), tabindex="0", class_="wrap")


def _responses(document: Document, operation: Document) -> Child:
    """The answer with its fields, and the problems in one line each."""
    answers: list[Child] = []
    problems: list[Child] = []
    for status, given in operation["responses"].items():
        response = given
        if "$ref" in given:
            response = document["components"]["responses"][given["$ref"].rpartition("/")[2]]
        media_type, content = next(iter(response["content"].items()))
        media_types = list(response["content"])
        if status == "200" and "json" in media_type:
            answers.append(_fields("Answer", document, content["schema"]))
            if "example" in content:
                text = msgspec.json.format(msgspec.json.encode(content["example"]), indent=2).decode()
                answers.append(el("pre", el("code", text), tabindex="0"))
        elif status == "200":
            named = [[el("code", name), ", or " if name != media_types[-1] else "."] for name in media_types]
            answers.append(el("p", "Answers with ", named))
        else:
            problems.append(el("li", el("code", status, class_="status"), response["description"]))
    return [
        answers,
        el("details", el("summary", "When it cannot answer"), el("ul", problems, class_="problems"))
        if problems
        else None,
    ]


def _fields(caption: str, document: Document, schema: Document) -> Html:
    rows = [
        (
            field.name or "body",
            [field.type_words, None if field.is_required else ", optional"],
            field.limit_words,
            prose(field.description),
        )
        for field in fields_of(schema, document["components"]["schemas"], into_lists=True)
    ]
    return table(caption, ("Name", "Type", "Allowed", "Meaning"), rows)
