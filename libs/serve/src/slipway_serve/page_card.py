"""The page of one service, and the list of several: what it is, a form to try it, and what is known about its models.

HTML only; what it shows comes from the engine (names, digests, lineage, tensors) and from the OpenAPI document (forms).
"""

from collections.abc import Sequence
from typing import Any, Final

from slipway_bundle import TensorSpec
from slipway_serve.engine import Engine
from slipway_serve.inference import published_models
from slipway_serve.openapi import declared_of, request_example, words_of
from slipway_serve.page_fields import shown, size_words
from slipway_serve.page_form import file_request, form_of
from slipway_serve.page_markup import Child, Html, el, prose, table
from slipway_serve.schemas import field_docs
from slipway_serve.service import Declared, Model

SHORT: Final = 12
"""Digits of a digest that a person compares."""
PROTOCOL_PAGE: Final = "https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol"


def header(current: str, name: str) -> Html:
    """The bar on top of every page."""
    links = (("/", "Overview"), ("/docs", "API reference"), ("/openapi.json", "OpenAPI"))
    return el(
        "header",
        el("a", el("span", aria_hidden="true", class_="mark"), name, href="/", class_="brand"),
        el(
            "nav",
            [el("a", word, href=href, aria_current="page" if href == current else None) for href, word in links],
            aria_label="Pages",
        ),
        class_="top",
    )


def card_of(engine: Engine, document: dict[str, Any], prefix: str) -> list[Html]:
    """The body of a service's page.

    Args:
        engine: of the service.
        document: the server's OpenAPI document.
        prefix: where the service's paths begin.
    """
    return [
        el(
            "main",
            _title(engine),
            el("div", _tries(engine, document, prefix), _facts(engine), class_="columns"),
            [_tensors(engine, model) for model in engine.service.models.values()],
            _protocol(engine),
        )
    ]


def list_of(engines: Sequence[Engine]) -> list[Html]:
    """The body of the first page of a server with several services."""
    cards = [
        el(
            "li",
            el(
                "a",
                el("h2", engine.service.name),
                prose(_summary(engine) or "No description."),
                el("p", _version(engine), class_="quiet"),
                href=f"/{engine.service.name}",
                class_="panel",
            ),
        )
        for engine in engines
    ]
    lead = el("p", f"{len(engines)} services share this server, each under its own name.", class_="lead")
    return [el("main", el("div", el("h1", "Services"), lead, class_="title"), el("ul", cards, class_="services"))]


def _title(engine: Engine) -> Html:
    words = words_of(engine).split("\n\n")
    return el(
        "div",
        el("div", el("h1", engine.service.name), el("span", "asking…", class_="pill", data_ready=True), class_="named"),
        prose(_summary(engine), class_="lead"),
        prose("\n\n".join(words[1:])),
        class_="title",
    )


def _summary(engine: Engine) -> str:
    """First paragraph of the docstring, without the service's own name before a colon."""
    summary = " ".join(words_of(engine).split("\n\n")[0].split())
    name, separator, rest = summary.partition(":")
    if separator and name.lower() == engine.service.name.lower():
        summary = rest.strip()
    return summary[:1].upper() + summary[1:]


def _version(engine: Engine) -> str:
    digest = engine.view.digest
    return f"{engine.view.version} · {_short(digest)}" if digest else "from a folder, not a bundle"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]


def _tries(engine: Engine, document: dict[str, Any], prefix: str) -> Html:
    """One form for each path of the service; paths that take the same file share one."""
    groups: dict[object, list[Declared]] = {}
    for declared in declared_of(engine):
        path = f"{prefix}{declared.path}"
        groups.setdefault(file_request(document, path) or path, []).append(declared)
    sections: list[Child] = [
        _try(engine, document, prefix, members, is_first=index == 0, is_alone=len(groups) == 1)
        for index, members in enumerate(groups.values())
    ]
    if not sections:
        sections.append(el("section", el("p", "This service has no path of its own."), class_="panel"))
    return el("div", sections, class_="tries")


def _try(
    engine: Engine,
    document: dict[str, Any],
    prefix: str,
    members: Sequence[Declared],
    *,
    is_first: bool,
    is_alone: bool,
) -> Html:
    paths = [f"{prefix}{declared.path}" for declared in members]
    words = None
    if is_first and isinstance(members[0], Model):
        source = "the first golden example" if engine.view.golden else "an example made from the schema"
        words = f"Filled in with {source}. Send it, or change it first."
    elif request_example(engine, members[0]) is None and file_request(document, paths[0]) is None:
        words = "There is no example of this request; write one."
    about = [(path, document["paths"][path]["post"]["summary"]) for path in paths]
    return el(
        "section",
        el("h2", "Try it" if is_alone else f"Try {' and '.join(paths)}"),
        el("p", about[0][1], class_="quiet") if len(paths) == 1 and not is_alone else None,
        el("dl", [el("div", el("dt", el("code", path)), el("dd", summary)) for path, summary in about], class_="paths")
        if len(paths) > 1
        else None,
        el("p", words, class_="quiet") if words else None,
        form_of(document, paths, is_first=is_first),
        class_="panel",
    )


def _facts(engine: Engine) -> Html:
    """The card: identity, weights, where they come from, how good they are."""
    view = engine.view
    manifest, lineage = view.manifest, view.lineage
    rows: list[tuple[str, Child]] = [("Version", view.version)]
    if view.digest:
        rows.append(("Bundle", _digest(view.digest)))
    else:
        rows.append(("Bundle", "none: served from a folder"))
    if view.content_digest:
        rows.append(("Content", _digest(view.content_digest)))
    if view.created:
        rows.append(("Created", view.created))
    for name, model in view.models.items():
        label = "Weights" if len(view.models) == 1 else f"Weights of {name}"
        rows.append((label, f"{model.config.format}, {size_words(model.file.size)}"))
    if manifest is not None:
        if manifest.source is not None:
            changed = ", changed since" if manifest.source.dirty else ""
            rows.append(("Source", [el("code", manifest.source.commit[:SHORT]), changed]))
        rows += [(words, ", ".join(values)) for words, values in _listed(manifest.owners, manifest.licenses) if values]
        rows += [(name.capitalize(), value) for name, value in manifest.labels.items()]
    origins = (("Trained on", lineage.datasets), ("Made from", lineage.trained_from)) if lineage is not None else ()
    for words, datasets in origins:
        rows += [(words, [el("span", one.uri, class_="break"), _digest(one.digest)]) for one in datasets]
    metrics = lineage.metrics if lineage is not None else {}
    figures = [el("div", el("dt", name.replace("_", " ")), el("dd", shown(value))) for name, value in metrics.items()]
    return el(
        "aside",
        el("section", el("h2", "Model card"), el("dl", [_row(*row) for row in rows], class_="facts"), class_="panel"),
        el("section", el("h2", "Measured when trained"), el("dl", figures, class_="figures"), class_="panel")
        if figures
        else None,
    )


def _listed(owners: Sequence[str], licenses: Sequence[str]) -> tuple[tuple[str, Sequence[str]], ...]:
    return (("Owners", owners), ("License", licenses))


def _row(name: str, value: Child) -> Html:
    return el("div", el("dt", name), el("dd", value))


def _digest(digest: str) -> Html:
    """Short, with the whole behind it; the whole is what a click copies."""
    return el(
        "details",
        el("summary", el("code", _short(digest)), title=digest),
        el("code", digest, class_="break"),
        class_="digest",
    )


def _tensors(engine: Engine, model: Model[Any, Any]) -> Html:
    """What goes in and what comes out, with the names of the protocol."""
    lane = engine.lane(model.name)
    heading = "Inputs and outputs" if len(engine.service.models) == 1 else f"Inputs and outputs of {model.name}"
    tables = [
        _table(caption, specs, field_docs(kind))
        for caption, specs, kind in (
            ("Inputs", lane.input_specs, model.row),
            ("Outputs", lane.output_specs, model.answer),
        )
    ]
    return el("section", el("h2", heading), el("div", tables, class_="tables"), class_="panel")


def _table(caption: str, specs: Sequence[TensorSpec], docs: dict[str, str]) -> Html:
    rows = [
        (spec.name, [el("code", spec.datatype), _dimensions(spec)], _allowed(spec), prose(docs.get(spec.name, "")))
        for spec in specs
    ]
    return table(caption, ("Name", "Type", "Allowed", "Meaning"), rows)


def _dimensions(spec: TensorSpec) -> str:
    """` [3, 32 to 1888, boxes]`: a size, the first and last of the sizes that rows are padded to, or a free one."""
    if not spec.shape:
        return ""
    buckets, free = spec.buckets or ((),) * len(spec.shape), spec.free or ("",) * len(spec.shape)
    sizes = [
        str(size) if size != -1 else f"{padded[0]} to {padded[-1]}" if padded else name or "free"
        for size, padded, name in zip(spec.shape, buckets, free, strict=True)
    ]
    return f" [{', '.join(sizes)}]"


def _allowed(spec: TensorSpec) -> str:
    """The limits of a tensor in words."""
    words: list[str] = []
    if spec.values:
        words.append(", ".join(spec.values))
    if spec.ge is not None and spec.le is not None:
        words.append(f"{shown(spec.ge)} to {shown(spec.le)}")
    else:
        words += [f"{sign} {shown(edge)}" for sign, edge in (("≥", spec.ge), ("≤", spec.le)) if edge is not None]
    words += [f"{sign} {shown(edge)}" for sign, edge in ((">", spec.gt), ("<", spec.lt)) if edge is not None]
    if spec.multiple_of is not None:
        words.append(f"a multiple of {shown(spec.multiple_of)}")
    if spec.max_length is not None:
        words.append(f"at most {shown(spec.max_length)} {'characters' if spec.text else 'bytes'}")
    if spec.nullable:
        words.append("or null")
    return ", ".join(words).replace(", or null", " or null") or "any"


def _protocol(engine: Engine) -> Html:
    """Where else the same models answer."""
    published = published_models([engine])
    models = el(
        "ul", [el("li", el("a", el("code", path), href=path)) for path in (f"/v2/models/{n}" for n in published)]
    )
    admin = engine.config.server.admin_port
    return el(
        "section",
        el("h2", "Other ways in"),
        el(
            "ul",
            el("li", el("a", "API reference", href="/docs"), ": every path, with examples to copy."),
            el("li", el("a", "/openapi.json", href="/openapi.json"), ": for client generators."),
            el(
                "li",
                el("a", "Open Inference Protocol", href=PROTOCOL_PAGE),
                ", for Triton's and KServe's clients:",
                models,
            )
            if published
            else None,
            el("li", el("a", "/readyz", href="/readyz"), ": ready means that every model has answered a row."),
            el("li", f"Metrics are on the admin port{f' ({admin})' if admin else ''}, which is not public."),
        ),
        class_="panel",
    )
