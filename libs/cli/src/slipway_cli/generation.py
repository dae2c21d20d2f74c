"""Fetches the OpenAPI document of a service and turns it into a client with openapi-python-client.

It has no templates of its own: a well-kept generator is better than ours would be. The invariants: the folder appears
whole or not at all; the same document gives the same files; a service's code is only imported in a child process.
Source: https://github.com/openapi-generators/openapi-python-client
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from slipway_cli.errors import (
    DocumentError,
    FolderTakenError,
    ProgramFailedError,
    ProgramMissingError,
    ServiceCodeError,
    Told,
    ToldError,
    UnreachableError,
)

FETCH_TIMEOUT_S: Final = 10.0
DESCRIBE_TIMEOUT_S: Final = 120.0
GENERATE_TIMEOUT_S: Final = 300.0
MAX_DOCUMENT_BYTES: Final = 32 << 20
GENERATOR: Final = "openapi_python_client"
SHOWN_LINES: Final = 8
"""Of a failed child's last words."""


class MadeClient(Struct, frozen=True, kw_only=True):
    """What `slipway client` made; the object of `--json`."""

    folder: str
    package: str
    """What to import."""

    service: str
    version: str
    """Of the service, as its document says it."""

    target: str
    warnings: tuple[str, ...] = ()
    """Parts of the document that the generator left out."""


def generate_client(target: str, *, out: Path | None, overwrite: bool, store: Path) -> MadeClient:
    """Writes the client of `target`.

    Args:
        target: `http://…` of a live service, a service folder, or a bundle's reference.
        out: The folder to write; None is `NAME-client` in the current one.
        overwrite: Replace `out` when it is there.
        store: Where bundles are.

    Raises:
        ProgramMissingError: The generator is not installed.
        UnreachableError: The live service does not answer.
        DocumentError: It answers with something else than an OpenAPI document.
        FolderTakenError: `out` is there.
        ProgramFailedError: The generator refused the document.
        SlipwayError: The folder or bundle cannot be opened or described.
    """
    if importlib.util.find_spec(GENERATOR) is None:
        raise ProgramMissingError(
            "openapi-python-client is not installed", hint="`uv pip install 'slipway-cli[client]'`, then again"
        )
    text = fetch_document(target) if re.match(r"https?://", target) else describe(target, store)
    title, version = read_info(text, target)
    package = re.sub(r"\W+", "_", title.lower()).strip("_") + "_client"
    folder = (out or Path(package.replace("_", "-"))).absolute()
    if folder.exists() and not overwrite:
        raise FolderTakenError(f"{str(folder)!r} is already there", hint="`--overwrite` replaces it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".slipway-client-", dir=folder.parent) as place:
        warnings = run_generator(text, Path(place), package, package_version(version))
        if folder.exists():
            shutil.rmtree(folder)
        (Path(place) / "client").rename(folder)
    return MadeClient(
        folder=str(folder), package=package, service=title, version=version, target=target, warnings=warnings
    )


def fetch_document(url: str) -> bytes:
    """The document of a live service; raises UnreachableError and DocumentError."""
    address = url if url.endswith(".json") else f"{url.rstrip('/')}/openapi.json"
    try:
        with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310 - http(s) only, by pattern
            data: bytes = answer.read(MAX_DOCUMENT_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise DocumentError(
                f"{address!r} answered with status {error.code}, expected 200",
                hint="is it a slipway service, and is its page switched on?",
            ) from error
    except (OSError, ValueError) as error:
        raise UnreachableError(
            f"{address!r} does not answer: {error}", hint="`slipway serve TARGET` starts it"
        ) from error
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"the document at {address!r} has more than {MAX_DOCUMENT_BYTES} bytes")
    return data


def describe(target: str, store: Path) -> bytes:
    """The document of a folder or bundle, made in a child process because that imports the service.

    Raises:
        ServiceCodeError: The service's code cannot be imported; the message has the child's last lines.
        SlipwayError: What the child raised, by its code: no such bundle, a wrong configuration.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-document-") as place:
        made = Path(place) / "openapi.json"
        command = [
            sys.executable,
            "-P",
            "-B",
            "-X",
            "utf8",
            "-m",
            "slipway_cli.document",
            target,
            str(store),
            str(made),
        ]
        done = _run(command, DESCRIBE_TIMEOUT_S)
        if done.returncode == 0:
            return made.read_bytes()
        if made.exists():
            raise ToldError(msgspec.json.decode(made.read_bytes(), type=Told))
    last = "\n".join(done.stderr.strip().splitlines()[-SHOWN_LINES:])
    raise ServiceCodeError(f"{target!r} cannot be described; the last lines of the child process:\n{last}")


def read_info(text: bytes, target: str) -> tuple[str, str]:
    """Title and version of a document; raises DocumentError when it is none."""
    try:
        document: dict[str, Any] = json.loads(text)
        return str(document["info"]["title"]), str(document["info"]["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentError(f"{target!r} gave no OpenAPI document: got {text[:60]!r}") from error


def package_version(version: str) -> str:
    """A service's version as one that Python packages may have (PEP 440): `c-0160` becomes `0+c.0160`."""
    try:
        return str(Version(version))
    except InvalidVersion:
        local = ".".join(re.findall(r"[a-z0-9]+", version.lower()))
        return f"0+{local}" if local else "0"


def run_generator(text: bytes, place: Path, package: str, version: str) -> tuple[str, ...]:
    """Generates into `place`/client and gives the generator's warnings; raises ProgramFailedError."""
    (place / "openapi.json").write_bytes(text)
    ruff = [sys.executable, "-m", "ruff"] if importlib.util.find_spec("ruff") is not None else None
    config = {
        "project_name_override": package.replace("_", "-"),
        "package_name_override": package,
        "package_version_override": version,
        "literal_enums": True,
        "post_hooks": [],  # its default needs ruff on PATH
    }
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-P", "-X", "utf8", "-m", GENERATOR, "generate", "--meta", "uv"]
    command += ["--path", str(place / "openapi.json"), "--config", str(place / "config.json")]
    command += ["--output-path", str(place / "client")]
    done = _run(command, GENERATE_TIMEOUT_S)
    said = f"{done.stdout}\n{done.stderr}".strip()
    if done.returncode != 0:
        last = "\n".join(said.splitlines()[-SHOWN_LINES:])
        raise ProgramFailedError(f"the client generator ended with status {done.returncode}:\n{last}")
    if ruff is not None:
        _run([*ruff, "format", "--quiet", "--isolated", str(place / "client")], GENERATE_TIMEOUT_S)
    return tuple(line.strip() for line in said.splitlines() if line.startswith("WARNING"))


def _run(command: list[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as expired:
        raise ProgramFailedError(f"a child process did not end within {timeout_s:.0f} s: {command!r}") from expired
