"""The attachment `reference-profile`: what each model's training sample looked like, for drift detection.

The inside of a profile is not known here (the signals room's is); this is the envelope. The invariants: the bytes that
training wrote come out as they went in, so equal files give equal attachments; the attachment is no part of the content
digest: a better profile of the same model is the same model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle.canonical import decode_json
from slipway_bundle.config import ServiceConfig
from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.store_errors import JsonError

__all__ = ["ATTACHMENT", "MEDIA_TYPE", "decode_references", "encode_references", "read_references"]

ATTACHMENT: Final = "reference-profile"
MEDIA_TYPE: Final = "application/vnd.slipway.reference.v1+json"
MAX_BYTES: Final = 1024 * 1024
"""Of one model's profile; 50 features take about 25 kB."""


class _References(Struct, frozen=True, kw_only=True, rename="camel"):
    """The document; unknown fields of a newer minor version are accepted."""

    schema_version: str = "1.0"
    models: dict[str, msgspec.Raw]


def read_references(config: ServiceConfig, *, is_trained: bool = True) -> dict[str, bytes]:
    """Model -> the bytes of the file that its `reference` names, for the models that name one.

    Args:
        config: of the service.
        is_trained: a file that is not there is an error; else its model is left out.

    Raises:
        ConfigError: The file is not there, is too long, or is not a JSON object.
        FileError: It cannot be read.
    """
    named = {name: model.reference for name, model in config.bundle.models.items() if model.reference is not None}
    if not is_trained:
        named = {name: file for name, file in named.items() if (config.folder / file).exists()}
    return {name: _read(config.folder, name, file) for name, file in sorted(named.items())}


def encode_references(references: Mapping[str, bytes]) -> bytes:
    """Model -> profile as the attachment; the profiles keep their bytes, less surrounding blanks."""
    models = {name: msgspec.Raw(data.strip()) for name, data in sorted(references.items())}
    return msgspec.json.encode(_References(models=models))


def decode_references(data: bytes, *, what: str = f"attachment {ATTACHMENT}") -> dict[str, bytes]:
    """Model -> the bytes of its profile.

    Raises:
        JsonError: It is not strict JSON, or not of this shape.
    """
    return {name: bytes(raw) for name, raw in decode_json(data, _References, what=what).models.items()}


def _read(folder: Path, model: str, file: str) -> bytes:
    try:
        data = (folder / file).read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"`bundle.models.{model}.reference` names a file that is not there: {file!r} in {str(folder)!r}",
            hint="run the training, which writes it, or take the key out of slipway.toml",
            path=file,
            model=model,
        ) from None
    except OSError as error:
        raise FileError(f"{file!r} cannot be read: {error.strerror}", path=file) from error
    try:
        decode_json(data, dict[str, object], what=repr(file), max_bytes=MAX_BYTES)
    except JsonError as error:
        raise ConfigError(
            f"the reference profile of model {model!r} cannot be packed: {error.message}", path=file, model=model
        ) from error
    return data
