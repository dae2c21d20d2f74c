"""The skops container: made canonical when written, opened with limits when read.

skops names the members of its zip by the memory address of each object and stamps them with the clock, so two saves of
one model are never equal. Here members and identities are renumbered in the order of traversal, stored uncompressed
with the date of 1980, and the items of sets are sorted. The invariant: the same model gives the same bytes in every
process and under every hash seed, and loads as the same objects.
"""

import io
import json
import zipfile
from typing import Any

from slipway_bundle.weights import WeightsFormatError

SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_MEMBER_LIMIT = 1_000_000


def canonical(data: bytes) -> bytes:
    """The same model in canonical form; canonical bytes come back as they are.

    Raises:
        WeightsFormatError: The bytes are not a skops file.
    """
    members, schema = open_file(data)
    names: dict[str, str] = {}
    schema = _renumber(_sort_sets(schema), names, {})
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _put(archive, SCHEMA, json.dumps(schema, separators=(",", ":")).encode())
        for old, new in names.items():
            _put(archive, new, members[old])
    return target.getvalue()


def open_file(data: bytes) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The members and the decoded schema of a skops file.

    Raises:
        WeightsFormatError: It is no zip, is compressed (a bomb costs more than its bytes), names a member twice, or
            its schema is not a JSON object.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in found):
                raise WeightsFormatError(
                    "the skops file is compressed, expected stored members; save it with the adapter"
                )
            if sum(member.file_size for member in found) > len(data) or len(found) > _MEMBER_LIMIT:
                raise WeightsFormatError(f"the skops file claims more than its {len(data)} bytes")
            members = {member.filename: archive.read(member) for member in found}
        schema = json.loads(members[SCHEMA])
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, EOFError, RecursionError, OSError) as error:
        raise WeightsFormatError(f"the skops file is malformed: {error}") from error
    if len(members) != len(found) or not isinstance(schema, dict):
        raise WeightsFormatError("the skops file is malformed: a member twice, or a schema that is no object")
    return members, schema


def find_versions(schema: Any) -> set[str]:
    """Every scikit-learn version that the estimators in a schema were trained with."""
    if isinstance(schema, list):
        return set().union(*map(find_versions, schema))
    if not isinstance(schema, dict):
        return set()
    found: set[str] = set().union(*map(find_versions, schema.values()))
    version = schema.get("_sklearn_version")
    if isinstance(version, dict) and isinstance(version.get("content"), str):
        found.add(version["content"].strip('"'))
    return found


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.external_attr = _MODE
    member.create_system = 3  # POSIX, whatever wrote it
    archive.writestr(member, data)


def _renumber(node: Any, names: dict[str, str], identities: dict[int, int]) -> Any:
    """The node with members and identities numbered as they are met. A user's own key never has a plain value here."""
    if isinstance(node, list):
        return [_renumber(item, names, identities) for item in node]
    if not isinstance(node, dict):
        return node
    constant = node.get("__loader__") == "JsonNode"
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "__id__" and isinstance(value, int):
            if not constant:  # identity means nothing for a constant, and interning differs between processes
                found[key] = identities.setdefault(value, len(identities) + 1)
        elif key == "file" and isinstance(value, str):
            found[key] = names.setdefault(value, f"{len(names):06d}.{value.rpartition('.')[2]}")
        else:
            found[key] = _renumber(value, names, identities)
    return found


def _sort_sets(node: Any) -> Any:
    """The node with the items of sets in one order; dicts keep theirs, it is part of the model."""
    if isinstance(node, list):
        return [_sort_sets(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _sort_sets(value) for key, value in node.items()}
    if found.get("__loader__") == "SetNode" and isinstance(found.get("content"), list):
        found["content"] = sorted(found["content"], key=lambda item: json.dumps(_renumber(item, {}, {})))
    return found
