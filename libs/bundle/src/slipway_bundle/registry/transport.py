"""Requests to one registry: connections, authorization, redirects, retries, and errors in words.

It knows neither manifests nor blobs. The invariants: a request is tried again only for failures of the moment, within
`Retry`; credentials go to the registry's own origin and never over plain HTTP, loopback and `--insecure` apart; no
body of an answer is read without a limit.
Sources: OCI distribution-spec v1.1 ("Error Codes"); httpx (proxies from the environment).
"""

import random
import re
import ssl
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import cache
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
from msgspec import Struct

from slipway_bundle.errors import FileError
from slipway_bundle.registry.credentials import load_credentials
from slipway_bundle.registry.errors import (
    RegistryError,
    RegistryRefusedError,
    RemoteNotFoundError,
    TamperedError,
)
from slipway_bundle.registry.remote import Remote
from slipway_bundle.registry.retries import PASSING, Retry
from slipway_bundle.registry.tokens import Authorizer

__all__ = ["CA_VARIABLE", "Answer", "Body", "Transport"]

CA_VARIABLE = "SLIPWAY_REGISTRY_CA"

CONNECT_S = 10.0
MAX_REDIRECTS = 5
MAX_CHALLENGES = 2
"""401s in one request: an old token, and one that the server itself gave out too late."""

MAX_ERROR_BYTES = 64 << 10
MAX_CONNECTIONS = 16

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SERVED_BY = {"docker.io": "registry-1.docker.io"}

Body = Callable[[], Iterable[bytes]]
"""Makes the content of a request, again for every try."""


class _Error(Struct):
    code: str = ""
    message: str = ""


class _Errors(Struct):
    errors: tuple[_Error, ...] = ()


class Answer(Struct, frozen=True):
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Transport:
    """The connections to the registry of one `Remote`; any thread may send."""

    def __init__(
        self,
        remote: Remote,
        *,
        environ: Mapping[str, str],
        is_insecure: bool = False,
        retry: Retry | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            remote: Whose registry.
            environ: For credentials and the private CA; proxies are httpx's to read.
            is_insecure: Plain HTTP, also beyond this machine.
            retry: How often and how long to try.

        Raises:
            RegistryRefusedError: `http://` to another machine without `is_insecure`.
            FileError: The private CA cannot be read.
        """
        if remote.scheme == "http" and not (remote.is_loopback or is_insecure):
            raise RegistryRefusedError(
                f"registry {remote.host!r} would be spoken to without encryption",
                hint="write it without `http://`, or say `--insecure` if everyone between may read and change it",
            )
        plain = remote.scheme == "http" or (remote.scheme is None and (remote.is_loopback or is_insecure))
        self.host = remote.host
        self.base = f"{'http' if plain else 'https'}://{_SERVED_BY.get(remote.host, remote.host)}"
        self.retry = retry or Retry()
        self.stop = threading.Event()
        """Set it, and every request ends at its next pause."""
        self._draw = random.SystemRandom().random
        timeout = httpx.Timeout(self.retry.stall_s, connect=min(CONNECT_S, self.retry.stall_s), pool=None)
        self._client = httpx.Client(
            verify=_trusted(environ),
            trust_env=not remote.is_loopback,  # like Go's: what is on this machine needs no proxy
            timeout=timeout,
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            headers={"user-agent": "slipway", "accept-encoding": "identity"},
        )
        credentials = cache(lambda: load_credentials(environ, remote.host, remote.repository))
        self._authorizer = Authorizer(remote.host, credentials, self._fetch_token, needs_tls=not plain)

    def close(self) -> None:
        """Close every connection."""
        self.stop.set()
        self._client.close()

    def request(
        self,
        method: str,
        target: str,
        *,
        what: str,
        expected: Collection[int],
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        is_retried: bool = True,
    ) -> httpx.Response:
        """One request, its tries included; the answer's body is still to be read, and the answer to be closed.

        Args:
            method: `GET`, …
            target: A path of the registry, or a full address.
            what: What is being done, for messages: "reading manifest …".
            expected: Statuses that are answers; the rest are errors.
            scope: What the token must allow; empty for no authorization at all.
            headers: More headers; a body needs its `content-length`.
            body: Makes the content.
            is_retried: False leaves failures of the moment to the caller, as `RegistryError`.

        Raises:
            RegistryRefusedError: 401 or 403.
            RemoteNotFoundError: 404.
            RegistryError: Any other status, or no answer, after the last try.
        """
        failures = challenges = 0
        while True:
            sent = self._authorizer.header(scope) if scope else None
            try:
                response = self._once(method, self.address(target), headers, sent, body)
            except httpx.HTTPError as error:
                problem, retry_after = _named(error), None
            else:
                if response.status_code in expected:
                    return response
                with closing(response):
                    challenge = response.headers.get("www-authenticate")
                    if response.status_code == 401 and scope and challenge and challenges < MAX_CHALLENGES:
                        challenges += 1
                        if self._authorizer.challenged(challenge, scope, sent):
                            continue
                    problem, retry_after = _told(response), response.headers.get("retry-after")
                    if response.status_code not in PASSING:
                        raise _refusal(response.status_code, problem, what, self.host)
            failures += 1
            if not is_retried or not self.pause(failures, retry_after):
                raise RegistryError(
                    f"registry {self.host!r} failed while {what}: {problem}, {failures} times in a row",
                    hint="can this machine reach it? what was transferred is kept: the same command goes on from there",
                    host=self.host,
                    passing=not is_retried,
                )

    def ask(
        self,
        method: str,
        target: str,
        *,
        what: str,
        expected: Collection[int],
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        max_bytes: int = MAX_ERROR_BYTES,
    ) -> Answer:
        """`request` with a short body in and out; an answer that is cut off is asked for again. Raises like both."""
        sized = {**(headers or {})} if content is None else {**(headers or {}), "content-length": str(len(content))}
        body = None if content is None else lambda: (content,)
        failures = 0
        while True:
            response = self.request(method, target, what=what, expected=expected, scope=scope, headers=sized, body=body)
            try:
                return Answer(response.status_code, response.headers, self.read(response, max_bytes, what))
            except RegistryError:
                failures += 1
                if not self.pause(failures):
                    raise

    def pause(self, failures: int, retry_after: str | None = None) -> bool:
        """Wait before another try; False: there is none, or `stop` was set."""
        pause_s = self.retry.pause_s(failures, self._draw(), retry_after, datetime.now(UTC))
        return pause_s is not None and not self.stop.wait(pause_s)

    def read(self, response: httpx.Response, max_bytes: int, what: str) -> bytes:
        """The body of an answer, and the answer closed.

        Raises:
            TamperedError: More than `max_bytes`.
            RegistryError: It stopped in the middle.
        """
        with closing(response):
            data = bytearray()
            try:
                for chunk in response.iter_raw():
                    data += chunk
                    if len(data) > max_bytes:
                        raise TamperedError(
                            f"the answer of registry {self.host!r} while {what} is too long: "
                            f"expected at most {max_bytes} bytes",
                            hint="no document of an image is that long; ask who runs the registry",
                        )
            except httpx.HTTPError as error:
                raise RegistryError(f"registry {self.host!r} failed while {what}: {_named(error)}") from error
            return bytes(data)

    def address(self, target: str) -> str:
        """`target` as a full address. A registry behind a proxy may call itself `http`: the host decides."""
        absolute = urljoin(self.base + "/", target)
        parts, own = urlsplit(absolute), urlsplit(self.base)
        if parts.scheme == "http" and own.scheme == "https" and parts.hostname == own.hostname:
            return parts._replace(scheme=own.scheme, netloc=own.netloc).geturl()
        return absolute

    def _once(
        self, method: str, address: str, headers: Mapping[str, str] | None, authorization: str | None, body: Body | None
    ) -> httpx.Response:
        for _ in range(MAX_REDIRECTS + 1):
            # (1) Credentials only to the registry itself: an upload or a blob may be elsewhere, with its own token.
            own = {"authorization": authorization} if authorization and _origin(address) == _origin(self.base) else {}
            request = self._client.build_request(
                method, address, headers={**(headers or {}), **own}, content=body() if body else None
            )
            response = self._client.send(request, stream=True)
            if method not in {"GET", "HEAD"} or response.status_code not in _REDIRECTS:
                return response
            response.close()
            following = urljoin(address, response.headers.get("location", ""))
            # (2) Never from a protected connection to an open one.
            if urlsplit(following).scheme != "https" and urlsplit(address).scheme == "https":
                raise RegistryRefusedError(
                    f"registry {self.host!r} redirects to {urlsplit(following).netloc!r} without encryption"
                )
            address = following
        raise RegistryError(f"registry {self.host!r} redirects more than {MAX_REDIRECTS} times")

    def _fetch_token(self, address: str, authorization: str | None, form: Mapping[str, str] | None) -> bytes:
        headers = {"authorization": authorization} if authorization else {}
        content = str(httpx.QueryParams(dict(form))).encode() if form else b""
        if form:
            headers |= {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(content))}
        what = f"asking for a token at {urlsplit(address).netloc!r}"
        failures = 0
        while True:
            try:
                request = self._client.build_request(
                    "POST" if form else "GET", address, headers=headers, content=content
                )
                response = self._client.send(request, stream=True)
            except httpx.HTTPError as error:
                problem, retry_after = _named(error), None
            else:
                if response.status_code == 200:
                    return self.read(response, MAX_ERROR_BYTES, what)
                with closing(response):
                    problem, retry_after = _told(response), response.headers.get("retry-after")
                    if response.status_code not in PASSING:
                        raise _refusal(401, problem, what, self.host)
            failures += 1
            if not self.pause(failures, retry_after):
                raise RegistryError(f"registry {self.host!r} failed while {what}: {problem}, {failures} times in a row")


@cache
def _context(ca: str | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    if ca:
        try:
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise FileError(
                f"the private CA {ca!r} cannot be read: {error}",
                hint=f"{CA_VARIABLE} names a file of PEM certificates",
                path=ca,
            ) from error
    return context


def _trusted(environ: Mapping[str, str]) -> ssl.SSLContext:
    return _context(environ.get(CA_VARIABLE) or environ.get("SSL_CERT_FILE") or None)


def _origin(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc


def _named(error: httpx.HTTPError) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return f"{type(error).__name__} ({text})" if text else type(error).__name__


def _told(response: httpx.Response) -> str:
    """The status, and what the registry says about it."""
    data = bytearray()
    with suppress(httpx.HTTPError):
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > MAX_ERROR_BYTES:
                break
    text = f"status {response.status_code}"
    try:
        errors = msgspec.json.decode(bytes(data), type=_Errors).errors
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return text
    said = "; ".join(f"{error.code} {error.message}".strip()[:200] for error in errors[:3])
    return f"{text}, {''.join(character if character.isprintable() else ' ' for character in said)}" if said else text


def _refusal(status: int, problem: str, what: str, host: str) -> RegistryError | RemoteNotFoundError:
    message = f"registry {host!r} refused {what}: {problem}"
    if status in {401, 403}:
        return RegistryRefusedError(
            message,
            hint=f"`docker login {host}` or `skopeo login {host}` stores credentials; they may lack this right",
            host=host,
        )
    if status == 404:
        return RemoteNotFoundError(message, host=host)
    return RegistryError(message, host=host, status=status)
