"""Where the public keys of an issuer come from: a file, an address, or the issuer's discovery document; kept fresh.

The invariants: one fetch at a time; a token with an unknown key makes the issuer be asked at most once in 10 s, however
many such tokens come; a fetch that fails leaves the keys that were there; the event loop waits for none. Source: OpenID
Connect Discovery 1.0, section 4.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from slipway_bundle import ConfigError, SlipwayError
from slipway_serve.access.config import JwtConfig
from slipway_serve.access.errors import JwksError, JwksUnreachableError
from slipway_serve.access.followed_files import FollowedFiles
from slipway_serve.access.tokens import JWKS_BYTES, Tokens, Verifiers, verifiers_of

logger = logging.getLogger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
FETCH_S: Final = 5.0
AGAIN_S: Final = 10.0
"""Between two fetches for the sake of an unknown key, and after one that failed."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Discovery(Struct, frozen=True):
    """What is read of the discovery document."""

    issuer: str
    jwks_uri: str


class IssuerKeys:
    """Keeps the keys of `tokens` fresh. Event loop only.

    Args:
        config: `[runtime.access.jwt]`.
        tokens: is given the keys.

    Raises:
        ConfigError: an address that is not safe to ask.
        JwksError: the file is no key set.
        OSError: it cannot be read.
    """

    def __init__(self, config: JwtConfig, tokens: Tokens) -> None:
        self._config = config
        self._tokens = tokens
        self._fetching: asyncio.Task[None] | None = None
        self._fetched_at = -float("inf")
        self._has_failed = False
        self.file: FollowedFiles | None = None
        """When the keys come from a file."""
        source = config.jwks
        if source is not None and "://" not in source:
            path = Path(source)
            self.file = FollowedFiles([path], lambda: tokens.use(_from_file(path, config)))
            return
        self._address = source or config.issuer.rstrip("/") + DISCOVERY
        _check_address(self._address, "runtime.access.jwt.jwks" if source else "runtime.access.jwt.issuer")

    @property
    def is_stale(self) -> bool:
        """Whether the last try to get the keys failed."""
        return self.file.is_stale if self.file is not None else self._has_failed

    async def start(self) -> None:
        """Fetch for the first time; when the issuer does not answer, go on without: it is asked again and again."""
        if self.file is None:
            await self._fetch()

    def tick(self) -> None:
        """Called about once a second: read or fetch again when it is time."""
        if self.file is not None:
            self.file.look()
            return
        wait_s = AGAIN_S if self._has_failed else self._config.refresh_s
        if time.monotonic() >= self._fetched_at + wait_s:
            self._begin()

    async def seek(self) -> None:
        """A token has an unknown key: ask the issuer, unless that was done just now. Returns when it has answered."""
        if self.file is not None:
            self.file.look()
        elif self._fetching is not None or time.monotonic() >= self._fetched_at + AGAIN_S:
            await asyncio.shield(self._begin())

    async def stop(self) -> None:
        """End a fetch that runs."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _begin(self) -> "asyncio.Task[None]":
        """The fetch that runs, or a new one."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self._fetching is task:
            self._fetching = None

    async def _fetch(self) -> None:
        try:
            verifiers = await self._download()
        except SlipwayError as error:
            self._has_failed = True
            logger.warning("the keys of the token issuer were not fetched, those before stay: %s", error)
        else:
            self._has_failed = False
            self._tokens.use(verifiers)
        finally:
            self._fetched_at = time.monotonic()

    async def _download(self) -> Verifiers:
        config = self._config
        async with httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) as client:
            address = self._address
            if config.jwks is None:
                found = _decode_discovery(await _get(client, address), address)
                if found.issuer.rstrip("/") != config.issuer.rstrip("/"):
                    raise JwksError(f"{address} is of issuer {found.issuer[:200]!r}, expected {config.issuer!r}")
                address = found.jwks_uri
                _check_address(address, "jwks_uri")
            raw = await _get(client, address)
        return await asyncio.to_thread(verifiers_of, raw, config.algorithms)


def _from_file(path: Path, config: JwtConfig) -> Verifiers:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise JwksError(
            f"the issuer's keys `{path}` cannot be read: {error.strerror or error}",
            hint="`runtime.access.jwt.jwks` is a file, or an address that begins with https://",
        ) from error
    try:
        return verifiers_of(raw, config.algorithms)
    except JwksError as error:
        raise JwksError(f"`{path}`: {error.message}", hint=error.hint) from error


async def _get(client: httpx.AsyncClient, address: str) -> bytes:
    """The body of an answer, up to a megabyte, within a deadline for all of it.

    Raises:
        JwksUnreachableError: there is none.
    """
    try:
        async with asyncio.timeout(2 * FETCH_S), client.stream("GET", address) as answer:
            if answer.status_code != 200:
                raise JwksUnreachableError(f"{address} answered {answer.status_code}, expected 200")
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > JWKS_BYTES:
                    raise JwksUnreachableError(f"{address} answered more than {JWKS_BYTES} bytes")
            return body
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise JwksUnreachableError(f"{address} does not answer: {type(error).__name__} {error}") from error


def _decode_discovery(raw: bytes, address: str) -> Discovery:
    try:
        return msgspec.json.decode(raw, type=Discovery)
    except msgspec.DecodeError as error:
        raise JwksError(f"{address} is no discovery document: {error}") from error


def _check_address(address: str, field: str) -> None:
    """Keys that came unencrypted could be anybody's, unless they never left this machine.

    Raises:
        ConfigError: such an address.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return
    raise ConfigError(
        f"`{field}` is {address!r}, expected a file or an https:// address",
        hint="keys that are fetched without TLS can be replaced on the way",
    )
