"""Fetches a page of a server that is under load: its OpenAPI document before, its admin port at each window.

It sends no load, and gives up within the time it was given: a page that hangs must not hold up a window. Each page is
asked on a connection of its own: a balancer of connections would else give the same process's for ever.
"""

import time
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import gevent  # type: ignore[import-untyped]  # it ships no types
import msgspec
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from slipway_bundle.errors import HostError
from slipway_loadtests.arms import host_and_port
from slipway_signals import metrics

__all__ = ["Page", "UnreachableError", "fetch", "fetch_document"]

FETCH_S: Final = 5.0


class UnreachableError(HostError):
    """A server cannot be reached, or did not answer what a load run needs before it begins."""

    code = "load_unreachable"


class Page(NamedTuple):
    """One answer."""

    text: bytes
    date: str | None
    """Its `Date` header."""
    now: float
    """`time.time()` when it came."""
    instance: str | None
    """Which process it is of, where it says so."""


def fetch(url: str, timeout_s: float = FETCH_S, key: str | None = None) -> Page:
    """The page at a URL.

    Raises:
        UnreachableError: nothing came in `timeout_s`, or a status other than 200.
    """
    host, port, is_tls = host_and_port(url)
    headers = {"X-Slipway-Synthetic": "1", **({"Authorization": f"Bearer {key}"} if key else {})}
    client = HTTPClient(host, port, connection_timeout=timeout_s, network_timeout=timeout_s, ssl=is_tls)
    try:
        with gevent.Timeout(timeout_s, TimeoutError(f"no answer in {timeout_s:g} s")):
            response = client.request("GET", urlsplit(url).path or "/", headers=headers)
            text = bytes(response.read())
    except (OSError, HTTPConnectionClosed, HTTPParseError) as error:
        raise UnreachableError(f"{url} cannot be fetched: {error or type(error).__name__}", url=url) from error
    finally:
        client.close()
    if response.status_code != 200:
        raise UnreachableError(f"{url} answered {response.status_code}, expected 200", url=url)
    date, instance = response.get("date"), response.get(metrics.INSTANCE_HEADER)
    return Page(
        text,
        date if isinstance(date, str) else None,
        time.time(),
        instance if isinstance(instance, str) else None,
    )


def fetch_document(base: str, key: str | None) -> dict[str, Any]:
    """The OpenAPI document of a server.

    Raises:
        UnreachableError: it has none, or it is not JSON.
    """
    url = f"{base.rstrip('/')}/openapi.json"
    try:
        page = fetch(url, key=key)
        document: dict[str, Any] = msgspec.json.decode(page.text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UnreachableError(f"{url} is no OpenAPI document: {error}", url=url) from error
    except UnreachableError as error:
        error.hint = "inputs are made from it; give a file of inputs where a server does not publish it"
        raise
    return document
