"""Telling a pickle from data, in whatever it is wrapped: raw, joblib, compressed, or in the zip of `torch.save`.

It never unpickles, and it is no scanner: a file is refused for its *format*, because which pickles are harmless cannot
be told (scanners have been bypassed at will: arXiv 2508.19774). The invariant: reading is bounded, whatever the file
says about its own size.
"""

import bz2
import io
import lzma
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import IO

from slipway_bundle.errors import FileError, PickleRefusedError

__all__ = ["pickle_reason", "refuse_pickle"]

HEAD_BYTES = 64 * 1024
"""What is looked at; the opcodes of a pickle show long before."""

HIGHEST_PROTOCOL = 9
"""Five exist; `pickle.HIGHEST_PROTOCOL` would call the pickles of a newer Python data."""

MAX_ZIP_NAMES = 100_000
MIN_OPCODES = 4
"""A text of two or three bytes may be opcodes by chance."""

SAFER = {
    "xgboost": "`booster.save_model('model.ubj')`",
    "sklearn": "`skops.io.dump(model, 'model.skops')`",
    "onnx": "`skl2onnx` or `torch.onnx.export`",
    "safetensors": "`safetensors.torch.save_file(model.state_dict(), 'model.safetensors')`",
}


def refuse_pickle(path: Path, shown: str, format: str, signers: tuple[str, ...]) -> None:  # noqa: A002 - the field's word
    """Raises PickleRefusedError when the file at `path` is a pickle.

    Args:
        path: The file.
        shown: How messages call it.
        format: The format it is declared as; names the safe alternative.
        signers: Whose pickles `policy.toml` allows; a bundle has no format for them, so this only changes the message.

    Raises:
        PickleRefusedError: It is a pickle.
        FileError: It cannot be read.
    """
    try:
        reason = pickle_reason(path)
    except OSError as error:
        raise FileError(f"{shown!r} cannot be read: {error.strerror}", path=shown) from error
    if reason is None:
        return
    if signers:
        raise PickleRefusedError(
            f"{shown!r} is {reason}; policy.toml allows pickles signed by {', '.join(map(repr, signers))}, "
            "and a bundle of version 1 has no format that runs code",
            hint=f"save the model in a format that is only data: {SAFER[format]}",
            path=shown,
            reason=reason,
        )
    raise PickleRefusedError(
        f"{shown!r} is {reason}, and loading a pickle runs whatever code its author put into it",
        hint=f"save the model in a format that is only data: {SAFER[format]}",
        path=shown,
        reason=reason,
    )


def pickle_reason(path: Path) -> str | None:
    """What kind of pickle the file is, as a noun with its article, or None when it is none."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(b"PK\x03\x04"):
            return _in_zip(file)
        if _is_pickle(head):
            return "a pickle"
        unpacked = _decompress(head)
        if unpacked and _is_pickle(unpacked):
            return "a compressed pickle (joblib writes such)"
        if head.startswith(b"\x93NUMPY") and b"'descr': '|O'" in head[:256]:
            return "a NumPy file of objects, which is a pickle inside"
    return None


def _in_zip(file: IO[bytes]) -> str | None:
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()[:MAX_ZIP_NAMES]
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None
    for name in names:
        if name.rpartition("/")[2] == "data.pkl":
            return f"a `torch.save` archive with a pickle inside ({name!r})"
        if name.endswith((".pkl", ".pickle", ".joblib")):
            return f"an archive with a pickle inside ({name!r})"
    return None


def _is_pickle(head: bytes) -> bool:
    if len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= HIGHEST_PROTOCOL:
        return True
    # Protocols 0 and 1 have no header: read opcodes until they end or stop making sense.
    count = 0
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(head)):
            count += 1
            if opcode.name == "STOP":
                return count >= MIN_OPCODES
    except (ValueError, EOFError, IndexError, UnicodeDecodeError):
        # Cut off by the end of what was read: opcodes all the way is a pickle, a few by chance are not.
        return count >= 200 and len(head) == HEAD_BYTES
    return False


def _decompress(head: bytes) -> bytes:
    try:
        if head[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        if head[:1] == b"\x78":
            return zlib.decompressobj().decompress(head, HEAD_BYTES)
        if head[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(head, HEAD_BYTES)
        if head[:6] == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
            return lzma.LZMADecompressor().decompress(head, HEAD_BYTES)
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return b""
    return b""
