"""Unknown keys in something a human wrote: where they are, and which name was probably meant.

msgspec refuses unknown fields too, but it stops at `models[...]` without the key of the dict and suggests nothing. It
does not decode or judge values.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

__all__ = ["UnknownKey", "nearest", "unknown_keys"]


class UnknownKey(NamedTuple):
    """A key that has no field."""

    path: str
    """Dotted, as in TOML: `bundle.models.churn.fromat`."""

    known: frozenset[str]
    """The keys that are known in its place."""

    @property
    def hint(self) -> str | None:
        """`did you mean …`, when a known key is close."""
        return nearest(self.path.rpartition(".")[2], self.known)


def unknown_keys(raw: object, struct: type[msgspec.Struct]) -> Iterator[UnknownKey]:
    """Yields each key of `raw` (dicts and lists, as parsed) that has no field in `struct`, depth first."""
    return _walk(raw, msgspec.inspect.type_info(struct), "")


def nearest(word: str, known: frozenset[str]) -> str | None:
    """A hint that names the known word closest to `word`, or None when nothing is close."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else None


def _walk(raw: object, kind: msgspec.inspect.Type, path: str) -> Iterator[UnknownKey]:
    match kind:
        case msgspec.inspect.StructType() if isinstance(raw, Mapping):
            fields = {field.encode_name: field.type for field in kind.fields}
            for key, value in raw.items():
                if key not in fields:
                    yield UnknownKey(f"{path}{key}", frozenset(fields))
                else:
                    yield from _walk(value, fields[key], f"{path}{key}.")
        case msgspec.inspect.DictType() if isinstance(raw, Mapping):
            for key, value in raw.items():
                yield from _walk(value, kind.value_type, f"{path}{key}.")
        case msgspec.inspect.VarTupleType() if isinstance(raw, list):
            for index, value in enumerate(raw):
                yield from _walk(value, kind.item_type, f"{path.removesuffix('.')}[{index}].")
        case msgspec.inspect.UnionType():
            for option in kind.types:
                yield from _walk(raw, option, path)
        case _:
            return
