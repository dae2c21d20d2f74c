"""The pages for people: a card and a form for each service at `/`, an API reference at `/docs`, and `/openapi.json`.

Made once at start-up and served from memory through the same `Route` as everything else. The invariant: a page loads
nothing from another host and runs no inline script; the content security policy holds browsers to it. Everything has
an `ETag`, so a reload costs a 304. `[runtime.server] page = false` switches all of it off.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec

from slipway_serve.engine import Engine
from slipway_serve.page_card import card_of, header, list_of
from slipway_serve.page_markup import Html, page
from slipway_serve.page_reference import reference_of
from slipway_serve.routes import Asked, Reply, Route, ServerState

PAGE_DEADLINE_S: Final = 5.0
SCRIPT: Final = b"text/javascript; charset=utf-8"
ASSETS: Final = (
    ("pages.css", b"text/css; charset=utf-8"),
    ("try.js", SCRIPT),
    ("answer.js", SCRIPT),
    ("elements.js", SCRIPT),
)
POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
JSON_HEADERS: Final = ((b"content-type", b"application/json"),)


class Fixed:
    """Answers the same bytes always, or 304 to who has them."""

    def __init__(self, content: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.tag = b'"' + hashlib.sha256(content).hexdigest()[:20].encode() + b'"'
        self._content = content
        self._headers = (*headers, (b"etag", self.tag), (b"cache-control", b"no-cache"))

    async def __call__(self, asked: Asked) -> Reply:
        """The bytes made at start-up."""
        known = asked.headers.get(b"if-none-match", b"")
        if known == b"*" or self.tag in {tag.strip().removeprefix(b"W/") for tag in known.split(b",")}:
            return Reply(b"", self._headers, 304)
        return Reply(self._content, self._headers)


def page_routes(engines: Sequence[Engine], server: ServerState, document: dict[str, Any]) -> list[Route]:
    """The routes of all pages.

    Args:
        engines: started, so that their lanes can be described.
        server: shared by all routes.
        document: the OpenAPI document of these engines.
    """
    name = engines[0].service.name if len(engines) == 1 else "services"
    served: dict[str, Fixed] = {
        "/openapi.json": Fixed(msgspec.json.encode(document), JSON_HEADERS),
        "/docs": _page(f"{name} · API reference", "/docs", name, reference_of(document)),
    }
    if len(engines) == 1:
        served["/"] = _page(name, "/", name, card_of(engines[0], document, ""))
    else:
        served["/"] = _page(name, "/", name, list_of(engines))
        for engine in engines:
            own = engine.service.name
            served[f"/{own}"] = _page(own, f"/{own}", name, card_of(engine, document, f"/{own}"))
    for asset, media_type in ASSETS:
        content = (files("slipway_serve") / "static" / asset).read_bytes()
        headers = ((b"content-type", media_type), (b"x-content-type-options", b"nosniff"))
        served[f"/static/{asset}"] = Fixed(content, headers)
    return [Route(path, handler, server, PAGE_DEADLINE_S, "GET") for path, handler in served.items()]


def _page(title: str, current: str, name: str, body: Sequence[Html]) -> Fixed:
    document = page(
        title,
        styles=("/static/pages.css",),
        scripts=("/static/try.js",),
        body=[header(current, name), *body],
    )
    return Fixed(document, PAGE_HEADERS)
