"""What changed from one JSON Schema to another, and whether a caller who knows the first notices.

A request breaks when a value that was accepted is refused now; a response breaks when a value can come that never came
before. Both are one question, asked in opposite directions: is every value of one schema a value of the other? It reads
schemas only, never values, and calls no clock. The invariant: what it cannot compare (a keyword that it does not know
and that differs) counts as a difference, so a silent answer is a safe one. One thing it lets pass on purpose: a new
optional field of a request, although an open schema accepted any value under that name before.
Source: JSON Schema 2020-12, "Core" and "Validation"; Confluent, "Schema Evolution and Compatibility" (what is backward).
"""

import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from slipway_bundle.shapes import SchemaError

__all__ = ["ChangeKind", "SchemaChange", "request_changes", "response_changes"]

Json: TypeAlias = Any
"""A JSON Schema or a part of one: builtins as a JSON decoder gives them."""

ChangeKind: TypeAlias = Literal["removed", "added", "narrowed", "widened", "changed"]

ANNOTATIONS: Final = frozenset(
    {
        "$anchor", "$comment", "$defs", "$id", "$schema", "components", "default", "definitions", "deprecated",
        "description", "discriminator", "example", "examples", "externalDocs", "readOnly", "title", "writeOnly", "xml",
    }
)  # fmt: skip
"""Keywords that refuse no value."""

BOUNDS: Final = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
SIZES: Final = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
FIELDS: Final = ("properties", "required", "additionalProperties")
ITEMS: Final = ("prefixItems", "items")
INFORMATION: Final = frozenset({"added", "default"})
"""Differences that refuse no value."""

MAX_STEPS: Final = 100_000
"""Pairs of schemas that one comparison looks at; a service has some hundred."""

MAX_SHOWN: Final = 60
"""Characters of a value in a report."""


class SchemaChange(Struct, frozen=True, kw_only=True):
    """One difference between two schemas."""

    field: str
    """`$.lines[].score`; `$` is the whole body."""

    kind: ChangeKind
    what: str
    """The keyword that differs: `maximum`, `values`, `type`, …; `field` for a field that came or went."""

    before: str | None
    """None where nothing was said."""

    after: str | None
    is_breaking: bool
    """A caller who knows the schema before notices."""


class _Gap(NamedTuple):
    """At `field`, `inner` has values that `outer` has not, because of `what`."""

    field: str
    what: str
    inner: str | None
    outer: str | None


def request_changes(before: Json, after: Json) -> tuple[SchemaChange, ...]:
    """The changes of a body that callers send, breaking ones first, then by field.

    Raises:
        SchemaError: A reference leads nowhere, or the schemas are too large to compare.
    """
    return _changes(before, after, is_request=True)


def response_changes(before: Json, after: Json) -> tuple[SchemaChange, ...]:
    """The changes of a body that callers read; as `request_changes`."""
    return _changes(before, after, is_request=False)


def _changes(before: Json, after: Json, *, is_request: bool) -> tuple[SchemaChange, ...]:
    narrowings = {(gap.field, gap.what): gap for gap in _Comparison(before, after, is_old_inner=True).gaps()}
    widenings = {(gap.field, gap.what): gap for gap in _Comparison(after, before, is_old_inner=False).gaps()}
    breaking = narrowings if is_request else widenings
    found: dict[tuple[str, str], SchemaChange] = {}
    for field, what in sorted(narrowings.keys() | widenings.keys()):
        if what not in {"removed", "added"}:
            narrowing, widening = narrowings.get((field, what)), widenings.get((field, what))
            gap = narrowing or _turned(widenings[field, what])
            kind: ChangeKind = "changed" if narrowing and widening else "narrowed" if narrowing else "widened"
            is_breaking = (field, what) in breaking and what not in INFORMATION
            found[field, what] = SchemaChange(
                field=field, kind=kind, what=what, before=gap.inner, after=gap.outer, is_breaking=is_breaking
            )
    for field, what in narrowings.keys() & {
        (field, what) for field, what in narrowings if what in {"removed", "added"}
    }:
        gap = narrowings[field, what]
        within = [key for key in found if key[0] == field]
        is_breaking = what == "removed" or any(found[key].is_breaking for key in within)
        for key in within:
            del found[key]
        kind = "removed" if what == "removed" else "added"
        found[field, "field"] = SchemaChange(
            field=field, kind=kind, what="field", before=gap.inner, after=gap.outer, is_breaking=is_breaking
        )
    return tuple(sorted(found.values(), key=lambda change: (not change.is_breaking, change.field, change.what)))


def _turned(gap: _Gap) -> _Gap:
    return _Gap(gap.field, gap.what, gap.outer, gap.inner)


class _Comparison:
    """Is every value of `inner` a value of `outer`? `gaps()` says where not."""

    def __init__(self, inner: Json, outer: Json, *, is_old_inner: bool) -> None:
        self._inner = inner
        self._outer = outer
        self._is_old_inner = is_old_inner
        self._under_way: set[tuple[str, str]] = set()
        self._steps = 0

    def gaps(self) -> list[_Gap]:
        """Where a value of the inner schema is refused by the outer one, and which fields came and went."""
        return [] if self._inner == self._outer else self._compare(self._inner, self._outer, "$")

    def _compare(self, inner: Json, outer: Json, path: str) -> list[_Gap]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise SchemaError(f"the schema is too large to compare: more than {MAX_STEPS} pairs of parts, at {path}")
        pair = (_text(inner), _text(outer))
        if pair in self._under_way:  # a schema that contains itself: what is wrong with it is found further up
            return []
        self._under_way.add(pair)
        try:
            return self._compare_branches(
                _branches(inner, self._inner), _branches(outer, self._outer), path, (inner, outer)
            )
        finally:
            self._under_way.discard(pair)

    def _compare_branches(
        self, inner: list[dict[str, Json]], outer: list[dict[str, Json]], path: str, said: tuple[Json, Json]
    ) -> list[_Gap]:
        found: list[_Gap] = []
        if any(not branch for branch in outer):  # anything goes
            return found
        refused = [value for value in _values(inner) if not any(_allows(branch, value) for branch in outer)]
        if refused:
            found.append(_Gap(path, "values", _listed(inner), _listed(outer)))
        for branch in inner:
            if "enum" in branch:
                continue
            candidates = [other for other in outer if _may_hold(branch, other)]
            tried = [self._compare_kinds(branch, other, path) for other in candidates]
            if not tried:
                found.append(_Gap(path, "type", _listed(inner), _listed(outer)))
            else:
                found += min(tried, key=_weight)
        defaults = [part.get("default", ...) if isinstance(part, dict) else ... for part in said]
        if defaults[0] != defaults[1]:
            found.append(_Gap(path, "default", *(None if value is ... else _shown(value) for value in defaults)))
        return found

    def _compare_kinds(self, inner: dict[str, Json], outer: dict[str, Json], path: str) -> list[_Gap]:
        """Two branches of one type: each constraint of the outer one must follow from the inner one."""
        kind = outer.get("type")
        found = [*_numbers(inner, outer, path)] if kind in {"number", "integer"} else []
        known: tuple[str, ...] = ("type", *BOUNDS) if kind in {"number", "integer"} else ("type",)
        if kind in SIZES:
            found += _sizes(inner, outer, path, *SIZES[kind])
            known += SIZES[kind]
        if kind == "object":
            found += self._compare_fields(inner, outer, path)
            known += FIELDS
        if kind == "array":
            found += self._compare_items(inner, outer, path)
            known += ITEMS
        for keyword in sorted(outer.keys() - {*known, *ANNOTATIONS}):
            if inner.get(keyword, ...) != outer[keyword] or '"$ref"' in _text(outer[keyword]):
                theirs = _shown(inner[keyword]) if keyword in inner else None
                found.append(_Gap(path, keyword, theirs, _shown(outer[keyword])))
        return found

    def _compare_fields(self, inner: dict[str, Json], outer: dict[str, Json], path: str) -> list[_Gap]:
        found: list[_Gap] = []
        ours, theirs = inner.get("properties", {}), outer.get("properties", {})
        needed, given = set(outer.get("required", ())), set(inner.get("required", ()))
        rest, other_rest = inner.get("additionalProperties", True), outer.get("additionalProperties", True)
        for name in sorted(ours.keys() | theirs.keys()):
            field = f"{path}.{name}"
            if name in needed - given:
                found.append(_Gap(field, "required", "optional", "required"))
            if name in ours and name in theirs:
                found += self._compare(ours[name], theirs[name], field)
            elif name in ours:
                found.append(self._came_or_went(field, ours[name], is_inner=True))
                if other_rest is False:
                    found.append(_Gap(field, "unknown fields", "sent", "refused"))
                elif other_rest is not True:
                    found += self._compare(ours[name], other_rest, field)
            else:
                found.append(self._came_or_went(field, theirs[name], is_inner=False))
                if isinstance(rest, dict) and rest:
                    found += self._compare(rest, theirs[name], field)
        if rest is not False and other_rest is False:
            found.append(_Gap(path, "unknown fields", "allowed", "refused"))
        elif rest is not False and other_rest is not True:
            found += self._compare(rest, other_rest, f"{path}.*")
        return found

    def _came_or_went(self, field: str, schema: Json, *, is_inner: bool) -> _Gap:
        """A field that one side has: `removed` when that is the old side. Inner is before only if the old is inner."""
        root = self._inner if is_inner else self._outer
        text = _listed(_branches(schema, root))
        what = "removed" if is_inner == self._is_old_inner else "added"
        return _Gap(field, what, text if is_inner else None, None if is_inner else text)

    def _compare_items(self, inner: dict[str, Json], outer: dict[str, Json], path: str) -> list[_Gap]:
        found: list[_Gap] = []
        ours, theirs = inner.get("prefixItems", []), outer.get("prefixItems", [])
        rest, other_rest = inner.get("items", True), outer.get("items", True)
        longest = len(ours) if rest is False else math.inf
        longest = min(longest, inner.get("maxItems", math.inf))
        prefix = max(len(ours), len(theirs))
        for place in range(prefix):
            if place < longest:
                one = ours[place] if place < len(ours) else rest
                other = theirs[place] if place < len(theirs) else other_rest
                found += self._compare(one, other, f"{path}[{place}]")
        if longest > prefix:
            found += self._compare(rest, other_rest, f"{path}[]")
        return found


def _weight(gaps: list[_Gap]) -> int:
    """Fewer differences, the better the match; what refuses nothing counts nothing."""
    return sum(gap.what not in INFORMATION for gap in gaps)


def _branches(schema: Json, root: Json) -> list[dict[str, Json]]:
    """A schema as alternatives without `$ref`, `anyOf`, `const` and lists of types; an empty dict is anything."""
    if isinstance(schema, bool):
        return [{}] if schema else []
    for _ in range(32):  # a reference to a reference
        reference = schema.get("$ref")
        if reference is None or _says(schema) != {"$ref"}:
            break
        schema = _resolve(reference, root)
        if isinstance(schema, bool):
            return [{}] if schema else []
    words = _says(schema)
    if words == {"anyOf"}:
        return [branch for part in schema["anyOf"] for branch in _branches(part, root)]
    if "const" in words:
        return [{"enum": [schema["const"]]}]
    if "enum" in words:
        return [{"enum": list(schema["enum"])}]
    if not words:
        return [{}]
    kinds = schema.get("type", "unknown")
    return [_typed(schema, kind) for kind in (kinds if isinstance(kinds, list) else [kinds])]


def _typed(schema: dict[str, Json], kind: str) -> dict[str, Json]:
    if kind == "null":
        return {"enum": [None]}
    if kind == "boolean":
        return {"enum": [False, True]}
    return {**schema, "type": kind}


def _says(schema: dict[str, Json]) -> set[str]:
    return schema.keys() - ANNOTATIONS


def _resolve(reference: str, root: Json) -> Json:
    found = root
    try:
        for part in reference.removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
    except (KeyError, TypeError) as error:
        raise SchemaError(f"a schema refers to {reference!r}, which is not in its document") from error
    return found


def _values(branches: list[dict[str, Json]]) -> Iterator[Json]:
    for branch in branches:
        yield from branch.get("enum", ())


def _may_hold(inner: dict[str, Json], outer: dict[str, Json]) -> bool:
    one, other = inner.get("type"), outer.get("type")
    return one is not None and (one == other or (one == "integer" and other == "number"))


def _allows(branch: dict[str, Json], value: Json) -> bool:
    """Whether a branch accepts one value; of an array or object only when it lists it."""
    if "enum" in branch:
        return any(_text(value) == _text(other) for other in branch["enum"])
    kind = branch.get("type")
    if isinstance(value, str):
        low, high = (branch.get(word) for word in SIZES["string"])
        fits = kind == "string" and (low or 0) <= len(value) <= (math.inf if high is None else high)
        return fits and re.search(branch.get("pattern", ""), value) is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    same = {"type": "number", "minimum": value, "maximum": value, "multipleOf": value or 1}
    is_kind = kind == "number" or (kind == "integer" and value == math.floor(value))
    return is_kind and not any(_numbers({**same, "type": kind}, branch, ""))


def _numbers(inner: dict[str, Json], outer: dict[str, Json], path: str) -> Iterator[_Gap]:
    for bound, strict, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        ours, theirs = _edge(inner, bound, strict, sign), _edge(outer, bound, strict, sign)
        if ours < theirs:
            yield _Gap(path, bound, _edge_text(inner, bound, strict), _edge_text(outer, bound, strict))
    step = outer.get("multipleOf")
    ours = inner.get("multipleOf", 1 if inner.get("type") == "integer" else None)
    if step is not None and (ours is None or Fraction(str(ours)) % Fraction(str(step)) != 0):
        yield _Gap(path, "multipleOf", _number(inner, "multipleOf"), _number(outer, "multipleOf"))


def _edge(schema: dict[str, Json], bound: str, strict: str, sign: int) -> tuple[float, bool]:
    """A lower edge, upside down for an upper one, so that a smaller edge accepts more; True = the edge is out."""
    edges = [(sign * schema[word], word == strict) for word in (bound, strict) if word in schema]
    value, is_out = max(edges, default=(-math.inf, False))
    if schema.get("type") == "integer" and math.isfinite(value):
        return (math.floor(value) + 1 if is_out else math.ceil(value)), False
    return value, is_out


def _edge_text(schema: dict[str, Json], bound: str, strict: str) -> str | None:
    plain = _number(schema, bound)
    return plain if strict not in schema else f"{_number(schema, strict)} (exclusive)"


def _number(schema: dict[str, Json], word: str) -> str | None:
    return _shown(schema[word]) if word in schema else None


def _sizes(inner: dict[str, Json], outer: dict[str, Json], path: str, low: str, high: str) -> Iterator[_Gap]:
    ours = inner.get(low, 0), inner.get(high, math.inf)
    theirs = outer.get(low, 0), outer.get(high, math.inf)
    if ours[0] < theirs[0]:
        yield _Gap(path, low, _number(inner, low), _number(outer, low))
    if ours[1] > theirs[1]:
        yield _Gap(path, high, _number(inner, high), _number(outer, high))


def _listed(branches: list[dict[str, Json]]) -> str:
    """Alternatives in words: `number | null`, `"monthly" | "yearly"`."""
    words = [
        " | ".join(_text(value) for value in branch["enum"]) if "enum" in branch else branch.get("type", "anything")
        for branch in branches
    ]
    text = " | ".join(dict.fromkeys(words)) or "nothing"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _shown(value: Json) -> str:
    text = _text(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _text(value: Json) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON Schema: 1.0 is 1
    return msgspec.json.encode(value, order="deterministic").decode()


_Gaps: TypeAlias = Callable[[], list[_Gap]]
