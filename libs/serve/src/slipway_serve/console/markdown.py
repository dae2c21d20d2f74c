"""Runbooks as HTML: Markdown by markdown-it, with names filled in and nothing that a page or a label could inject.

HTML in a page is shown as text, pictures are left out, links lead to other runbooks or to another host, or are words.
A name is filled in after the page is parsed, so a label's value can never become Markdown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from slipway_serve.console.frame import command
from slipway_serve.page_markup import Html, el
from slipway_signals.runbooks import Into, fill_known

LANGUAGES: Final[Mapping[str, Into]] = {"sh": "sh", "promql": "promql"}
PAGE: Final = re.compile(r"(?:\.\./runbooks/|\./)?([A-Za-z0-9_-]+)\.md(#[\w-]*)?")
FAR: Final = re.compile(r"https?://")


def rendered(text: str, *, values: Mapping[str, str] | None = None, pages: Sequence[str] = ()) -> Html:
    """Markdown as HTML.

    Args:
        text: of a runbook.
        values: for its names; None: names stay as they are.
        pages: names of the runbooks that links may lead to.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("image", _image)
    tokens = parser.parse(text)
    for token in tokens:
        if token.type == "fence":
            token.content = fill_known(token.content, values or {}, into=LANGUAGES.get(token.info.strip(), "text"))
        elif token.children:
            _inline(token.children, values, pages)
    return Html(parser.renderer.render(tokens, parser.options, {}))


def _inline(tokens: Sequence[Token], values: Mapping[str, str] | None, pages: Sequence[str]) -> None:
    for token in tokens:
        if token.type in {"text", "code_inline"}:
            token.content = fill_known(token.content, values or {})
        elif token.type == "link_open":
            _lead(token, pages)


def _lead(token: Token, pages: Sequence[str]) -> None:
    """Make a link lead somewhere that the console serves, or another host; any other loses its address."""
    address = str(token.attrs.get("href", ""))
    near = PAGE.fullmatch(address)
    if near is not None and near[1] in pages:
        token.attrs = {"href": f"/runbooks/{quote(near[1])}{near[2] or ''}"}
    elif FAR.match(address):
        token.attrs = {"href": address, "rel": "noreferrer"}
    elif address.startswith("#"):
        token.attrs = {"href": address}
    else:
        token.attrs = {"title": address}


def _fence(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    del renderer, options, env
    token = tokens[place]
    language = token.info.strip()
    if language in LANGUAGES:
        return command(token.content.rstrip("\n"), what="Command" if language == "sh" else "Query")
    return el("pre", el("code", token.content), class_="wrap", tabindex="0")


def _image(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    del renderer, options, env
    return el("em", tokens[place].content)
