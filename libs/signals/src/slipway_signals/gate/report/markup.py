"""Elements of a page, by the standard library's own tree: what came from data cannot break out of its place.

It knows no evidence. The invariant: nothing is ever joined into HTML or XML as text.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "clean", "el", "html_of", "table"]

Child: TypeAlias = "Element | str | Iterable[Child] | None"
"""What may stand in an element; None is nothing."""

FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, in any spelling."""


def el(name: str, /, *children: Child, **attributes: str | float | None) -> Element:
    """One element.

    Args:
        name: of the element.
        children: elements and text; sequences are put in one after another.
        attributes: `_` stands for `-`, and one at the end is dropped (`class_`); numbers are written with at most two
            decimals; None is left out.
    """
    made = Element(name)
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
            made.set(key.rstrip("_").replace("_", "-"), clean(text))
    _add(made, children)
    return made


def table(caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, style: str | None = None) -> Element:
    """A table whose first column names the row; it scrolls on its own where it is too wide.

    Args:
        caption: for those who hear the page.
        names: of the columns.
        rows: as many words as there are names, in each.
        style: class of the table.
    """
    head = el("thead", el("tr", [el("th", name, scope="col") for name in names]))
    body = [el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])) for row in rows]
    made = el("table", el("caption", caption, class_="unseen"), head, el("tbody", body), class_=style)
    return el("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def html_of(element: Element) -> str:
    """The element as HTML: void elements without an end, nothing escaped in `style`."""
    return tostring(element, encoding="unicode", method="html")


def clean(text: str) -> str:
    """The text without characters that no page can hold."""
    return FORBIDDEN.sub("\ufffd", text)


def _add(parent: Element, children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif not isinstance(child, str):
            _add(parent, child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)
