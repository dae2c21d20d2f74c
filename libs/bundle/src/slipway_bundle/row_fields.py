"""Reads a row Struct into its leaves: one tensor and one way to reach the value each.

It looks at types only, never at values. `msgspec.inspect` gives kinds and bounds but drops the dtype of an array;
`typing.get_type_hints` keeps the dtype but fails on a generic alias, so it is asked about the origin and the type
variables are filled in here. The invariant: every Struct that passes has a finite set of named leaves, and everything
else is refused with the field's path. Source: `docs/service-api.md`.
"""

import enum
import keyword
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import numpy as np
from msgspec import Struct, inspect

from slipway_bundle.schema import Bound, Datatype, Floats, SchemaError, TensorSpec
from slipway_bundle.shapes import Shape

Kind = Literal["scalar", "text", "bytes", "choice", "sequence", "array"]

DATATYPES: dict[str, Datatype] = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip
"""numpy's names -> the protocol's."""

DTYPES: dict[Datatype, str] = {datatype: np.dtype(name).newbyteorder("<").str for name, datatype in DATATYPES.items()}
"""The protocol's names -> numpy's, little-endian."""

_ALLOWED = (
    "float, int, bool, str, bytes, a Literal or Enum of str, a nested Struct, a list of fixed length, "
    "or an array with a Shape"
)


_MAX_NESTING = 32
"""Structs in Structs; beyond, a Struct contains itself."""


class Leaf(Struct, frozen=True, kw_only=True):
    """One tensor of a row type and how its value sits in the Struct."""

    spec: TensorSpec
    kind: Kind
    attributes: tuple[str, ...]
    """The way from the row to the value."""

    containers: tuple[type, ...] = ()
    """`list` or `tuple`, one for each axis of a sequence."""

    choice: type[enum.Enum] | None = None
    """The Enum whose members the values are; None for a Literal."""


def read_leaves(row_type: type[Struct], *, floats: Floats, missing: bool) -> tuple[Leaf, ...]:
    """The leaves of a row type, in field order.

    Args:
        row_type: A msgspec Struct; generic aliases (`Pair[float]`) are allowed.
        floats: The datatype of plain `float` fields.
        missing: Whether `float | None` is allowed (the weights can take NaN).

    Raises:
        SchemaError: The type has no fields, or a field that cannot become a tensor.
    """
    try:
        info = inspect.type_info(row_type)
    except (TypeError, NameError) as error:
        raise SchemaError(
            f"{_name(row_type)} cannot be read as a row type: {error}",
            hint="declare arrays with slipway's F32, F64, I64, I32, U8, Bool; msgspec does not see through every alias",
        ) from error
    if not isinstance(info, inspect.StructType):
        raise SchemaError(f"{row_type!r} is not a row type, expected a msgspec Struct")
    leaves = tuple(_Reader(_name(row_type), floats, missing=missing).struct(info, (), ()))
    if not leaves:
        raise SchemaError(f"{_name(row_type)} has no fields, expected at least one")
    seen: set[str] = set()
    for leaf in leaves:
        if leaf.spec.name in seen:
            raise SchemaError(f"{_name(row_type)} has two tensors named {leaf.spec.name!r}")
        seen.add(leaf.spec.name)
    return leaves


class _Reader:
    """Walks one row type; the state is what every refusal needs to say."""

    def __init__(self, owner: str, floats: Floats, *, missing: bool) -> None:
        self.owner = owner
        self.floats = floats
        self.missing = missing

    def struct(self, info: inspect.StructType, names: tuple[str, ...], attributes: tuple[str, ...]) -> Iterator[Leaf]:
        """The leaves of a Struct that was reached by `attributes` and is called `names`."""
        hints: dict[str, object] | None = None
        for field in info.fields:
            name = ".".join((*names, field.encode_name))
            if len(names) >= _MAX_NESTING:
                raise self.refusal(name, f"nests more than {_MAX_NESTING} Structs deep", "a finite row")
            if not field.name.isidentifier() or keyword.iskeyword(field.name):
                raise self.refusal(name, f"is called {field.name!r}", "a Python identifier")
            if not field.required:
                hint = "a mistyped key would silently take the default; make the field required, or `float | None`"
                raise self.refusal(name, "has a default", "none", hint=hint)
            if isinstance(field.type, inspect.StructType):
                yield from self.struct(field.type, (*names, field.encode_name), (*attributes, field.name))
            elif isinstance(field.type, inspect.CustomType) and field.type.cls is np.ndarray:
                hints = _hints(info.cls) if hints is None else hints
                yield self.array(name, (*attributes, field.name), hints[field.name], info.cls)
            else:
                yield self.leaf(name, (*attributes, field.name), field.type)

    def leaf(self, name: str, attributes: tuple[str, ...], kind: inspect.Type) -> Leaf:
        """A field that is not a Struct and not an array."""
        match kind:
            case inspect.UnionType():
                return self.optional(name, attributes, kind)
            case inspect.LiteralType():
                return self.choice(name, attributes, kind.values, None)
            case inspect.EnumType():
                return self.choice(name, attributes, tuple(member.value for member in kind.cls), kind.cls)
            case inspect.StrType():
                spec = TensorSpec(
                    name=name,
                    datatype="BYTES",
                    text=True,
                    min_length=kind.min_length,
                    max_length=kind.max_length,
                    pattern=kind.pattern,
                )
                return Leaf(spec=spec, kind="text", attributes=attributes)
            case inspect.BytesType():
                spec = TensorSpec(name=name, datatype="BYTES", min_length=kind.min_length, max_length=kind.max_length)
                return Leaf(spec=spec, kind="bytes", attributes=attributes)
            case inspect.ListType() | inspect.VarTupleType() | inspect.TupleType():
                return self.sequence(name, attributes, kind)
            case _:
                return Leaf(spec=self.number(name, kind), kind="scalar", attributes=attributes)

    def number(self, name: str, kind: inspect.Type, shape: tuple[int, ...] = ()) -> TensorSpec:
        """The spec of a bool, int or float, or of a sequence of them."""
        match kind:
            case inspect.BoolType():
                return TensorSpec(name=name, datatype="BOOL", shape=shape)
            case inspect.IntType():
                return TensorSpec(name=name, datatype="INT64", shape=shape, **_bounds(kind))
            case inspect.FloatType():
                return TensorSpec(name=name, datatype=self.floats, shape=shape, **_bounds(kind))
            case inspect.DictType():
                raise self.refusal(name, "is a dict", "a Struct with named fields")
            case inspect.StructType():
                raise self.refusal(name, "is a list of Structs", "one Struct, or arrays with equal lengths")
            case _:
                got = type(kind).__name__.removesuffix("Type").lower()
                raise self.refusal(name, f"has the type `{got}`", _ALLOWED)

    def optional(self, name: str, attributes: tuple[str, ...], kind: inspect.UnionType) -> Leaf:
        """`float | None`; every other union is refused."""
        rest = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(rest) != 1 or len(rest) == len(kind.types) or not isinstance(rest[0], inspect.FloatType):
            hint = "a missing int or bool has no NaN: use `float | None`, or add a bool field that says it is missing"
            raise self.refusal(name, "is a union", "no union but `float | None`", hint=hint)
        if not self.missing:
            hint = "make the field required, or use a format that takes missing values (xgboost)"
            raise self.refusal(name, "may be missing", "a value, because the weights do not take NaN", hint=hint)
        spec = msgspec.structs.replace(self.number(name, rest[0]), nullable=True)
        return Leaf(spec=spec, kind="scalar", attributes=attributes)

    def choice(
        self, name: str, attributes: tuple[str, ...], values: tuple[object, ...], choice: type[enum.Enum] | None
    ) -> Leaf:
        """A closed set of strings."""
        words = tuple(value for value in values if isinstance(value, str))
        if len(words) != len(values) or any("\0" in word for word in words):
            raise self.refusal(
                name,
                f"has the values {values!r}",
                "strings without NUL",
                hint="for a closed set of numbers use an int field with `Meta(ge=, le=)`",
            )
        spec = TensorSpec(name=name, datatype="BYTES", text=True, values=words)
        return Leaf(spec=spec, kind="choice", attributes=attributes, choice=choice)

    def sequence(self, name: str, attributes: tuple[str, ...], kind: inspect.Type) -> Leaf:
        """A list or tuple of numbers whose every axis has one length."""
        shape: list[int] = []
        containers: list[type] = []
        while isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.TupleType):
            containers.append(list if isinstance(kind, inspect.ListType) else tuple)
            if isinstance(kind, inspect.TupleType):
                if any(item != kind.item_types[0] for item in kind.item_types):
                    raise self.refusal(name, "is a tuple of different types", "equal types, or a nested Struct")
                shape.append(len(kind.item_types))
                kind = kind.item_types[0]
            elif kind.min_length is None or kind.min_length != kind.max_length or kind.min_length < 1:
                got = f"has a length from {kind.min_length or 0} to {kind.max_length or 'any'}"
                raise self.refusal(
                    name, got, "one length", hint="write `Annotated[list[float], Meta(min_length=3, max_length=3)]`"
                )
            else:
                shape.append(kind.min_length)
                kind = kind.item_type
        spec = self.number(name, kind, tuple(shape))
        return Leaf(spec=spec, kind="sequence", attributes=attributes, containers=tuple(containers))

    def array(self, name: str, attributes: tuple[str, ...], hint: object, cls: type) -> Leaf:
        """`Annotated[F32, Shape(...)]` of a Struct with `eq=False`."""
        shapes = [item for item in getattr(hint, "__metadata__", ()) if isinstance(item, Shape)]
        if len(shapes) != 1:
            raise self.refusal(name, "is an array without a shape", "`Annotated[F32, Shape(3, 640, 640)]`")
        scalar = _scalar_type(hint)
        datatype = DATATYPES.get(scalar.__name__) if scalar is not None else None
        if datatype is None:
            raise self.refusal(name, f"is an array of {scalar!r}", f"one of {', '.join(DATATYPES)}")
        if _config(cls).eq:
            raise self.refusal(
                name,
                f"is an array and {_name(cls)} compares by value",
                "`eq=False`",
                hint="`==` between arrays has no single answer; write `class X(Struct, eq=False)`",
            )
        sizes = shapes[0].dimensions
        buckets = tuple(size if isinstance(size, tuple) else () for size in sizes)
        free = tuple(size if isinstance(size, str) else "" for size in sizes)
        spec = TensorSpec(
            name=name,
            datatype=datatype,
            shape=tuple(size if isinstance(size, int) else -1 for size in sizes),
            buckets=buckets if any(buckets) else (),
            free=free if any(free) else (),
        )
        return Leaf(spec=spec, kind="array", attributes=attributes)

    def refusal(self, name: str, got: str, expected: str, *, hint: str | None = None) -> SchemaError:
        """The error for the field `name`."""
        return SchemaError(f"field `{self.owner}.{name}` {got}, expected {expected}", hint=hint, field=name)


class _Bounds(typing.TypedDict):
    ge: Bound
    gt: Bound
    le: Bound
    lt: Bound
    multiple_of: Bound


def _bounds(kind: inspect.IntType | inspect.FloatType) -> _Bounds:
    return _Bounds(ge=kind.ge, gt=kind.gt, le=kind.le, lt=kind.lt, multiple_of=kind.multiple_of)


def _hints(cls: object) -> dict[str, object]:
    """The annotations of a Struct with its type variables filled in."""
    origin = get_origin(cls) or cls
    filled = dict(zip(getattr(origin, "__parameters__", ()), get_args(cls), strict=False))
    hints = typing.get_type_hints(origin, include_extras=True)
    return {name: filled.get(hint, hint) if isinstance(hint, typing.TypeVar) else hint for name, hint in hints.items()}


def _scalar_type(hint: Any) -> type | None:
    """The numpy scalar type of an array annotation, through `Annotated` and through `NDArray` as a TypeAliasType."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if hasattr(hint, "__value__") and not get_args(hint):
        return _scalar_type(hint.__value__)
    for argument in reversed(get_args(hint)):
        if isinstance(argument, type) and issubclass(argument, np.generic):
            return argument
        if get_origin(argument) is np.dtype:
            return _scalar_type(argument)
    return None


def _config(cls: Any) -> Any:
    return (get_origin(cls) or cls).__struct_config__


def _name(cls: object) -> str:
    return getattr(cls, "__name__", None) or repr(cls)
