"""Write the Python of `open_inference.proto`: messages, their types, and the client's stub.

    python scripts/protos.py           write the three files beside the .proto
    python scripts/protos.py --check   exit 1 when a committed file differs

The compiler is grpcio-tools, of the version in requirements.lock: another one writes other bytes. Two things are
changed in what it writes. (1) The descriptors get a pool of their own: in the default one, `package inference` can be
defined once in a process, and Triton's client defines it too. (2) The stub imports the messages from our package: a
path inside the descriptor would say so as well, but with a length before it that `fork.py` could not correct.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]  # the package has no types

FOLDER = Path(__file__).resolve().parent.parent / "libs" / "serve" / "src" / "slipway_serve" / "oip"
PROTO = "open_inference.proto"
CHANGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "open_inference_pb2.py": (
        ("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"),
        ("(DESCRIPTOR, 'open_inference_pb2', _globals)", "(DESCRIPTOR, __name__, _globals)"),
    ),
    "open_inference_pb2.pyi": (),
    "open_inference_pb2_grpc.py": (
        ("\nimport open_inference_pb2 as", "\nfrom slipway_serve.oip import open_inference_pb2 as"),
    ),
}
"""File → what is replaced in it."""


def main() -> int:
    """Write or compare."""
    stale = [name for name, text in generated().items() if _read(FOLDER / name) != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"protos: {name} is not what {PROTO} says\nhint: run `python scripts/protos.py`", file=sys.stderr)
        return 1 if stale else 0
    for name, text in generated().items():
        (FOLDER / name).write_text(text)
    return 0


def generated() -> dict[str, str]:
    """File name → text, as it should be committed.

    Raises:
        ValueError: the compiler refuses the .proto, or writes something else than what CHANGES expects.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{kind}={folder}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
        if protoc.main(["protoc", f"-I{FOLDER}", *outputs, PROTO]):
            raise ValueError(f"{FOLDER / PROTO} cannot be compiled; the lines above say why")
        return {name: _changed(name, (Path(folder) / name).read_text()) for name in CHANGES}


def _changed(name: str, text: str) -> str:
    for old, new in CHANGES[name]:
        if text.count(old) != 1:
            raise ValueError(f"{name} holds {old!r} {text.count(old)} times, expected once: is grpcio-tools new?")
        text = text.replace(old, new)
    return text


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
