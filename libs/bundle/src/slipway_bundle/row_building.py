"""Answer rows from a model's columns: one `.tolist()` a column, then one generated constructor call a row.

It decides nothing about what is acceptable (`row_checks` does) and knows no RowError. The invariant: a built row holds
Python values, the declared containers and Enum members, and arrays only where the Struct declares arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle.row_checks import Fault
from slipway_bundle.row_columns import Column
from slipway_bundle.row_fields import Leaf

Row = TypeVar("Row", bound=Struct)

Converter = Callable[[Column, NDArray[Any]], tuple[list[Any], dict[int, Fault]]]
"""A model's column to Python values, one a row, and the faults by row."""


def make_converter(leaf: Leaf) -> Converter:
    """A function from a model's column to Python values and faults."""
    match leaf.kind:
        case "choice" if leaf.choice is not None:
            members = {member.value: member for member in leaf.choice}

            def choose(column: Column, array: NDArray[Any]) -> tuple[list[Any], dict[int, Fault]]:
                words, faults = column.words(array)
                return [members.get(word) for word in words], faults

            return choose
        case "choice" | "text" | "bytes":
            return Column.words
        case "array":
            return lambda column, array: _listed(column.numbers(array))
        case "sequence":
            return lambda column, array: (
                [_contained(value, leaf.containers) for value in _whole(leaf, array).tolist()],
                column.checked(array),
            )
        case _ if leaf.spec.nullable:
            return lambda column, array: (
                [None if value != value else value for value in _whole(leaf, array).tolist()],  # noqa: PLR0124  # NaN
                column.checked(array),
            )
        case _:
            return lambda column, array: (_whole(leaf, array).tolist(), column.checked(array))


def make_builder(row_type: type[Row], leaves: Sequence[Leaf]) -> Callable[..., list[Any]]:
    """Generates `build(column, ...) -> list of rows`; a keyword call in a comprehension is the cheapest constructor."""
    names: dict[str, object] = {}

    def expression(cls: Any, depth: int, members: Sequence[tuple[int, Leaf]]) -> str:
        name = f"T{len(names)}"
        names[name] = cls
        parts: dict[str, list[tuple[int, Leaf]]] = {}
        for index, leaf in members:
            parts.setdefault(leaf.attributes[depth], []).append((index, leaf))
        types = {field.name: field.type for field in msgspec.inspect.type_info(cls).fields}  # type: ignore[attr-defined]  # a Struct
        arguments = []
        for attribute, below in parts.items():
            if len(below[0][1].attributes) == depth + 1:
                arguments.append(f"{attribute}=a{below[0][0]}")
            else:
                arguments.append(f"{attribute}={expression(types[attribute].cls, depth + 1, below)}")
        return f"{name}({', '.join(arguments)})"

    call = expression(row_type, 0, list(enumerate(leaves)))
    if len(leaves) == 1:
        source = f"def build(c0):\n    return [{call} for a0 in c0]"
    else:
        items, columns = (", ".join(f"{letter}{i}" for i in range(len(leaves))) for letter in "ac")
        source = f"def build({columns}):\n    return [{call} for {items} in zip({columns})]"
    exec(compile(source, "<slipway row builder>", "exec"), names)  # noqa: S102  # made of field names only, all identifiers
    return names["build"]  # type: ignore[return-value]  # defined by the source


def _whole(leaf: Leaf, array: NDArray[Any]) -> NDArray[Any]:
    """Integers that answer a float field become floats."""
    return array.astype(np.float64) if leaf.spec.is_float and array.dtype.kind != "f" else array


def _listed(taken: tuple[NDArray[Any], dict[int, Fault]]) -> tuple[list[Any], dict[int, Fault]]:
    return list(taken[0]), taken[1]


def _contained(value: Any, containers: tuple[type, ...]) -> Any:
    """A nested list with the tuples that the field declares."""
    if len(containers) == 1:
        return value if containers[0] is list else tuple(value)
    return containers[0](_contained(part, containers[1:]) for part in value)
