"""A stack's configuration: `Pulumi.STACK.yaml`, decoded once into a frozen Struct of the program's own.

It reads no file and no other program's keys: Pulumi hands over the values of the stack, and `load_settings` converts
those of one project. The invariants: a key that no field has is an error that names the nearest one; a field typed
`Secret` never takes a value that is plain text in the stack's file, and a value that is a secret there never becomes
plain text here, so it cannot reach the state in the clear.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import pulumi
from pulumi.runtime import config as stack_config

from slipway_bundle import UsageError
from slipway_bundle.keys import unknown_keys

__all__ = ["Secret", "SettingsError", "convert_settings", "editor_schema", "load_settings"]

T = TypeVar("T", bound=msgspec.Struct)

_REF = "#/$defs/{name}"
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`\Z")


class SettingsError(UsageError):
    """The stack's configuration has an unknown key, a bad value, or a secret in the clear."""

    code = "platform_settings_invalid"


class Secret:
    """A value of the stack's configuration that only Pulumi may see.

    Make one by `pulumi config set --secret`. Its text leaves it as a secret output and in no other way: `repr` does not
    show it, and msgspec does not write it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def output(self) -> pulumi.Output[str]:
        """The text as a secret output: what a resource's argument takes."""
        return pulumi.Output.secret(self._text)

    def __repr__(self) -> str:
        return "Secret(…)"


def load_settings(kind: type[T], project: str) -> T:
    """The settings of the running stack.

    Args:
        kind: The Struct that the project's keys are converted to.
        project: The namespace of the keys: the project's name in its `Pulumi.yaml` (`slipway-cluster`).

    Raises:
        SettingsError: An unknown key, a missing one, a value of another type, or a secret in the clear.
    """
    known: dict[str, object] = {**pulumi.runtime.get_config_env(), **stack_config.CONFIG.get()}
    prefix = f"{project}:"
    values = {key.removeprefix(prefix): value for key, value in known.items() if key.startswith(prefix)}
    secrets = frozenset(
        key.removeprefix(prefix)
        for key in known
        if key.startswith(prefix)
        and (pulumi.runtime.is_config_secret(key) or key in pulumi.runtime.get_config_secret_keys_env())
    )
    return convert_settings(kind, project, values, secrets)


def convert_settings(kind: type[T], project: str, values: Mapping[str, object], secrets: frozenset[str]) -> T:
    """Converts the keys of one project, as `load_settings` does, from values that are given.

    Args:
        kind: The Struct to convert to.
        project: The namespace, for messages.
        values: Key without namespace -> value as Pulumi hands it over: text, where tables and lists are JSON.
        secrets: The keys whose value, or a part of it, is a secret in the stack's file.

    Raises:
        SettingsError: As `load_settings` does.
    """
    types = {field.encode_name: field.type for field in _fields(kind)}
    raw = {key: _decoded(value, types.get(key)) for key, value in values.items()}
    for unknown in unknown_keys(raw, kind):
        raise SettingsError(
            f"{project}:{unknown.path} is no setting of this program",
            hint=unknown.hint or f"known here: {', '.join(sorted(unknown.known))}",
            key=f"{project}:{unknown.path}",
        )
    for field in _fields(kind):
        if field.required and field.encode_name not in raw:
            raise SettingsError(
                f"{project}:{field.encode_name} is not set, and has no default",
                hint=f"`pulumi config set {field.encode_name} VALUE`, or write it into Pulumi.STACK.yaml",
                key=f"{project}:{field.encode_name}",
            )
    seen: list[Secret] = []
    try:
        settings = msgspec.convert(raw, kind, dec_hook=_secret_decoder(seen))
    except msgspec.ValidationError as error:
        raise _refused(project, raw, secrets, str(error)) from error
    _check_secrets(kind, project, raw, secrets, known=bool(seen))
    return settings


def editor_schema(kind: type[msgspec.Struct], project: str) -> dict[str, object]:
    """The JSON Schema (2020-12) of a `Pulumi.STACK.yaml` of that project, for editors.

    Keys of other namespaces (`aws:region`) are allowed, unknown keys of this one are not.
    """
    (_, definitions) = msgspec.json.schema_components((kind,), schema_hook=_secret_schema, ref_template=_REF)
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False  # unknown keys are refused at every depth
    own = definitions.pop(kind.__name__)
    properties = {f"{project}:{name}": schema for name, schema in own["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Pulumi.STACK.yaml of {project}",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": properties,
                "required": [f"{project}:{name}" for name in own.get("required", [])],
                "propertyNames": {"anyOf": [{"enum": sorted(properties)}, {"not": {"pattern": f"^{project}:"}}]},
            }
        },
        "$defs": definitions,
    }


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    described = msgspec.inspect.type_info(kind)
    if not isinstance(described, msgspec.inspect.StructType):
        raise TypeError(f"{kind!r} is no Struct: this is a bug in slipway")
    return described.fields


def _decoded(value: object, kind: msgspec.inspect.Type | None) -> object:
    """Pulumi hands over text: JSON for tables and lists, and for numbers and booleans what was written."""
    if not isinstance(value, str) or _takes_text(kind):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _takes_text(kind: msgspec.inspect.Type | None) -> bool:
    match kind:
        case msgspec.inspect.StrType() | msgspec.inspect.LiteralType() | msgspec.inspect.CustomType():
            return True
        case msgspec.inspect.UnionType():
            return any(_takes_text(option) for option in kind.types)
        case _:
            return False


def _holds_secret(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.CustomType():
            return kind.cls is Secret
        case msgspec.inspect.StructType():
            return any(_holds_secret(field.type) for field in kind.fields)
        case msgspec.inspect.DictType():
            return _holds_secret(kind.value_type)
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            return _holds_secret(kind.item_type)
        case msgspec.inspect.UnionType():
            return any(_holds_secret(option) for option in kind.types)
        case _:
            return False


def _check_secrets(
    kind: type[msgspec.Struct], project: str, raw: Mapping[str, object], secrets: frozenset[str], *, known: bool
) -> None:
    """A secret goes into a field that takes one, and such a field takes nothing else."""
    fields = {field.encode_name: field.type for field in _fields(kind)}
    types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in raw.items():
        if key in secrets and not _holds_secret(fields[key]):
            raise SettingsError(
                f"{project}:{key} is a secret in the stack's file, and this program writes it into plain state",
                hint=f"`pulumi config set {key} VALUE` without --secret, or keep it out of the stack",
                key=f"{project}:{key}",
            )
        if known and key not in secrets and _holds_secret(fields[key]):
            here: list[Secret] = []
            msgspec.convert(value, types[key], dec_hook=_secret_decoder(here))
            if here:
                raise SettingsError(
                    f"{project}:{key} holds a secret in plain text",
                    hint=f"`pulumi config set --secret {key} VALUE` (a part of a table: --secret --path), "
                    "and change the secret: it has been in the clear",
                    key=f"{project}:{key}",
                )


def _secret_decoder(seen: list[Secret]) -> Callable[[type, object], object]:
    def decode(kind: type, raw: object) -> object:
        if kind is not Secret or not isinstance(raw, str):
            raise ValueError(f"expected `str`, got `{type(raw).__name__}`")
        seen.append(Secret(raw))
        return seen[-1]

    return decode


def _secret_schema(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "object", "properties": {"secure": {"type": "string"}}, "required": ["secure"]}
    raise NotImplementedError


def _refused(project: str, raw: Mapping[str, object], secrets: frozenset[str], problem: str) -> SettingsError:
    """msgspec ends its message with the place: `` - at `$.a.b` `` or `` - at `key` in `$.a` ``."""
    found = _PLACE.search(problem)
    path = found["path"] if found else ""
    what = problem[: found.start()] if found else problem
    key = re.split(r"[.\[]", path)[0]
    known = "" if key not in raw else f"; {project}:{key} is {'a secret' if key in secrets else repr(raw[key])}"
    return SettingsError(
        f"{project}:{path or '*'} cannot be used: {what[:1].lower()}{what[1:]}{known}", key=f"{project}:{path}"
    )
