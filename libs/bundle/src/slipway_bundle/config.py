"""`slipway.toml`: what a service folder declares, decoded once into frozen Structs.

It opens no model, imports no code and reads no environment variable. The invariant: a `ServiceConfig` has only
known keys, and every path in it is relative and stays inside the folder. `[bundle]` is what the content digest
covers; `[runtime]` is kept raw (the serving room decodes it), so that tuning never changes a bundle's identity.
Source: `docs/service-api.md`.
"""

import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.keys import unknown_keys
from slipway_bundle.references import MAX_NAME, MAX_VERSION, NAME_PATTERN, VERSION_PATTERN

CONFIG_NAME = "slipway.toml"

Format = Literal["xgboost", "sklearn", "onnx", "safetensors"]
"""The model formats that have an adapter. Adding one is adding a file under `adapters/` and a word here."""

Name = Annotated[str, Meta(pattern=NAME_PATTERN, max_length=MAX_NAME)]
"""A bundle's name: what an OCI repository may be called."""

Version = Annotated[str, Meta(pattern=VERSION_PATTERN, max_length=MAX_VERSION)]
"""A version: what an OCI tag may be."""

Entry = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")]

ModelName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
"""A model's name: TOML key, protocol name and metric label at once."""


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[bundle.models.NAME]` table: the weights and how they answer."""

    file: Annotated[str, Meta(min_length=1)]
    """Path of the weights, relative to the service folder."""

    format: Format

    outputs: dict[str, str] = {}
    """Field of the answer -> name out of the format's closed set; empty when the field names are such names."""

    columns: tuple[str, ...] = ()
    """Feature names in training order; only for weights that carry none."""

    categories: dict[str, tuple[str, ...]] = {}
    """Field -> its values in the order of training; the value's index becomes the column."""

    reference: str | None = None
    """A JSON file that training writes: the reference profile of drift. Never part of the content digest."""


class DatasetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[bundle.datasets]]` table: a data set that the models were trained on."""

    uri: Annotated[str, Meta(min_length=1)]
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class BundleConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[bundle]` tables: what a bundle is made of; see `manifest.hashed_config` for the part that is hashed."""

    name: Name | None = None
    """The repository part of the bundle's reference; the service's own name when absent."""

    version: Version | None = None
    """The tag; `g<commit7>-<contentDigest12>` when absent."""

    models: Annotated[dict[ModelName, ModelConfig], Meta(min_length=1)]

    golden: str = "golden.jsonl"
    """Examples with their expected answers, one JSON object a line."""

    code: str = "src"
    """The folder that is put on `sys.path`."""

    include: tuple[str, ...] = ()
    """Globs, relative to the folder, of files added to the code beside those of `code`."""

    exclude: tuple[str, ...] = ()
    """Globs, relative to the folder, of files left out."""

    lineage: str | None = None
    """A JSON file that training writes: data sets, metrics, the run."""

    datasets: tuple[DatasetConfig, ...] = ()

    licenses: tuple[str, ...] = ()
    """SPDX expressions."""

    owners: tuple[str, ...] = ()

    labels: Annotated[dict[str, str], Meta(max_length=64)] = {}


class ServiceConfig(Struct, frozen=True, kw_only=True):
    """A decoded `slipway.toml` and the folder it was found in."""

    folder: Path
    entry: str
    """`package.module:object`, the service."""

    bundle: BundleConfig
    runtime: dict[str, object] = {}
    """The raw `[runtime]` table; never part of the content digest."""


class _Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as it is written."""

    entry: Entry
    bundle: BundleConfig
    runtime: dict[str, object] = {}


def load_config(folder: Path) -> ServiceConfig:
    """Reads `slipway.toml` of a service folder.

    Raises:
        FileError: The file cannot be read.
        ConfigError: It is not TOML, has an unknown key or a bad value, or names a path outside the folder.
    """
    path = folder / CONFIG_NAME
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no {CONFIG_NAME} in {str(folder)!r}",
            hint="give the folder of a service, or start one with `slipway new NAME`",
            path=str(path),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
    return parse_config(text, folder)


def parse_config(text: str, folder: Path) -> ServiceConfig:
    """Decodes the text of a `slipway.toml` that belongs to `folder`. Raises ConfigError as `load_config` does."""
    where = str(folder / CONFIG_NAME)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where!r} is not TOML: {error}", path=where) from error
    for unknown in unknown_keys(raw, _Document):
        raise ConfigError(
            f"{where!r} has an unknown key `{unknown.path}`, expected one of {', '.join(sorted(unknown.known))}",
            hint=unknown.hint,
            path=where,
            key=unknown.path,
        )
    try:
        document = msgspec.convert(raw, _Document)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where!r} is not valid: {_located(raw, error)}", path=where) from error
    _check_paths(document.bundle, where)
    return ServiceConfig(folder=folder, entry=document.entry, bundle=document.bundle, runtime=document.runtime)


def check_inside(path: str, key: str, where: str) -> None:
    """Raises ConfigError unless `path` is relative, POSIX and without `..`."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or re.match(r"^[A-Za-z]:", path):
        raise ConfigError(
            f"`{key}` leaves the service folder: got {path!r}, expected a relative path without `..`, in {where!r}",
            hint="copy the file into the service folder, or write it there from your training script",
            path=where,
            key=key,
        )


def _check_paths(bundle: BundleConfig, where: str) -> None:
    named = {"bundle.golden": bundle.golden, "bundle.code": bundle.code}
    named |= {f"bundle.models.{name}.file": model.file for name, model in bundle.models.items()}
    named |= {
        f"bundle.models.{name}.reference": model.reference
        for name, model in bundle.models.items()
        if model.reference is not None
    }
    if bundle.lineage is not None:
        named["bundle.lineage"] = bundle.lineage
    named |= {f"bundle.include[{i}]": glob for i, glob in enumerate(bundle.include)}
    named |= {f"bundle.exclude[{i}]": glob for i, glob in enumerate(bundle.exclude)}
    for key, path in named.items():
        check_inside(path, key, where)


def _located(raw: dict[str, object], error: msgspec.ValidationError) -> str:
    """The sentence of a validation error; msgspec writes `[...]` for a key, we want the name."""
    bundle = raw.get("bundle")
    models = bundle.get("models") if isinstance(bundle, dict) else None
    for name, model in models.items() if isinstance(models, dict) else ():
        try:
            msgspec.convert(model, ModelConfig)
        except msgspec.ValidationError as precise:
            sentence, _, path = str(precise).partition(" - at `$")
            return f"{sentence} - at `bundle.models.{name}{path.rstrip('`')}`"
    return str(error)
