"""The attachment `slo`: the service's objectives, as its `slo.yaml` says them.

What they mean is not known here (the signals room's is). The invariant: the bytes come out as they went in; they are no
part of the content digest, because another promise about a model is the same model.
"""

from pathlib import Path
from typing import Final

from slipway_bundle.errors import FileError

__all__ = ["ATTACHMENT", "MEDIA_TYPE", "read_objectives"]

ATTACHMENT: Final = "slo"
MEDIA_TYPE: Final = "application/yaml"
FILE: Final = "slo.yaml"
MAX_BYTES: Final = 1024 * 1024


def read_objectives(folder: Path) -> bytes | None:
    """The service's objectives; what they say is not known here (the signals room's is).

    Raises:
        FileError: They are there and cannot be read, or are too long.
    """
    path = folder / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{FILE!r} cannot be read: {error.strerror}", path=str(path)) from error
    if len(data) > MAX_BYTES:
        raise FileError(f"{FILE!r} has {len(data)} bytes, expected at most {MAX_BYTES}", path=str(path))
    return data
