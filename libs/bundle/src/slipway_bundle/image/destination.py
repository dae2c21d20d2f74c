"""Where `installer` writes to: a layer instead of a folder. Imports `installer`; nothing else in this package does.

It changes where bytes go, not which: names, scripts, shebangs and RECORD are `installer`'s own. The invariant: no file
goes anywhere else than below the environment, which `installer` checks by its schemes.
"""

import io
from typing import TYPE_CHECKING, BinaryIO

from installer.destinations import SchemeDictionaryDestination
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.utils import Scheme, copyfileobj_with_hashing

from slipway_bundle.image.archives import LayerWriter

if TYPE_CHECKING:
    from installer.scripts import ScriptSection


class LayerDestination(SchemeDictionaryDestination):
    """Writes a wheel into `layer`; `schemes` are absolute paths in the image."""

    def __init__(self, schemes: dict[str, str], interpreter: str, layer: LayerWriter) -> None:
        super().__init__(schemes, interpreter, "posix")
        self._layer = layer

    def write_to_fs(self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool) -> RecordEntry:  # noqa: FBT001
        """One file; raises ValueError when `path` leaves its scheme."""
        name = self._path_with_destdir(scheme, path).as_posix().lstrip("/")
        data = io.BytesIO()
        digest, size = copyfileobj_with_hashing(stream, data, self.hash_algorithm)
        self._layer.add(name, data.getvalue(), is_program=is_executable)
        return RecordEntry(path, Hash(self.hash_algorithm, digest), size)

    def write_script(self, name: str, module: str, attr: str, section: "ScriptSection") -> RecordEntry:
        """The launcher of an entry point."""
        script, data = Script(name, module, attr, section).generate(self.interpreter, self.script_kind)
        return self.write_to_fs(Scheme("scripts"), script, io.BytesIO(data), is_executable=True)
