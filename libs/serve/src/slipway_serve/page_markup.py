"""HTML that cannot be broken by what it shows: every string is escaped unless it is `Html` already.

Names, docstrings and examples come from a model team's code, and page authors forget. Here forgetting is safe: `el`
escapes its children and its attributes, and only `el` makes `Html`. No templates, no other escape hatch.

    el("p", "1 < 2", class_="lead")  →  <p class="lead">1 &lt; 2</p>
"""

import html
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

VOID: Final = frozenset({"br", "hr", "input", "link", "meta", "wbr"})
"""Elements without an end tag."""


class Html(str):
    """Text that is HTML, made by `el` or `join`."""

    __slots__ = ()


Child: TypeAlias = str | Iterable["Child"] | None
"""What may stand in an element; None is nothing."""


def el(name: str, /, *children: Child, **attributes: str | bool | None) -> Html:
    """One element.

    Args:
        name: of the element.
        children: strings are escaped; `Html` is taken as it is; sequences are joined.
        attributes: `_` stands for `-`, and one at the end is dropped (`class_`). True is an attribute without a value,
            None and False are left out.
    """
    words = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Children one after another."""
    return Html("".join(map(_text, children)))


def prose(text: str, **attributes: str | bool | None) -> list[Html]:
    """Paragraphs of a docstring; what stands between backticks is code."""
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    return [el("p", _with_code(paragraph), **attributes) for paragraph in paragraphs]


def path_words(path: str) -> list[Child]:
    """A path that may break after each `/`."""
    return [part for piece in path.split("/")[1:] for part in ("/", el("wbr"), piece)]


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """A table whose first column names the row; columns without any text are left out. It scrolls on its own."""
    texts = [[join([cell]) for cell in row] for row in rows]
    kept = [index for index in range(len(columns)) if any(row[index] for row in texts)]
    head = el("tr", [el("th", columns[index], scope="col") for index in kept])
    body = [el("tr", [el("td", row[i]) if i else el("th", row[i], scope="row") for i in kept]) for row in texts]
    made = el("table", el("caption", caption), el("thead", head), el("tbody", body), class_=f"columns-{len(kept)}")
    return el("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def page(
    title: str,
    *,
    styles: Iterable[str],
    scripts: Iterable[str],
    body: Iterable[Child],
    about: str = "",
    libraries: Iterable[str] = (),
) -> bytes:
    """A whole document, UTF-8.

    Args:
        title: of the window.
        styles: addresses of style sheets.
        scripts: addresses of modules; they run when the document is there.
        body: of the document.
        about: its description, one sentence.
        libraries: addresses of scripts that are no modules; they run before `scripts`.
    """
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="description", content=about) if about else None,
        el("title", title),
        el("link", rel="icon", href="data:,"),
        [el("link", rel="stylesheet", href=style) for style in styles],
        [el("script", src=library, defer=True) for library in libraries],
        [el("script", src=script, type="module") for script in scripts],
    )
    return ("<!doctype html>" + el("html", head, el("body", *body), lang="en")).encode()


def _with_code(text: str) -> list[Child]:
    parts = text.replace("``", "`").split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner is only a backtick
        return [text]
    return [el("code", part) if index % 2 else part for index, part in enumerate(parts)]


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return html.escape(child)
    return join(child)


def _attribute(name: str, value: str | bool | None) -> str:  # noqa: FBT001  # an attribute's value
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(value)}"'
