"""What changed from one JSON Schema to another, and whether a caller who knows the first notices.

A request breaks when a value that was accepted is refused now; a response breaks when a value can come that never came
before. Both are one question, asked in opposite directions: is every value of one schema a value of the other? It reads
schemas only, never values, and calls no clock. The invariant: what it cannot compare (a keyword that it does not know
and that differs) counts as a difference, so a silent answer is a safe one. One thing it lets pass on purpose: a new
optional field of a request, although an open schema accepted any value under that name before.
Source: JSON Schema 2020-12, "Core" and "Validation"; Confluent, "Schema Evolution and Compatibility" (backward).
"""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.json_schemas import (
    ANNOTATIONS,
    BOUNDS,
    EDGES,
    SIZES,
    Branch,
    Json,
    allows,
    branches,
    check_schema,
    edge,
    text_of,
)
from slipway_bundle.shapes import SchemaError

__all__ = ["ChangeKind", "SchemaChange", "request_changes", "response_changes"]

ChangeKind: TypeAlias = Literal["removed", "added", "narrowed", "widened", "changed"]

FIELDS: Final = ("properties", "required", "additionalProperties")
ITEMS: Final = ("prefixItems", "items")
CAME_OR_WENT: Final = ("removed", "added")
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
    for schema in (before, after):
        check_schema(schema)
    narrowings = {(gap.field, gap.what): gap for gap in _Comparison(before, after, is_old_inner=True).gaps()}
    widenings = {(gap.field, gap.what): _turned(gap) for gap in _Comparison(after, before, is_old_inner=False).gaps()}
    breaking = {key for key in (narrowings if is_request else widenings) if key[1] not in INFORMATION}
    found: dict[tuple[str, str], SchemaChange] = {}
    for (field, what), gap in {**widenings, **narrowings}.items():
        where = [(field, what) in gaps for gaps in (narrowings, widenings)]
        kind: ChangeKind = "changed" if all(where) else "narrowed" if where[0] else "widened"
        found[field, what] = SchemaChange(
            field=field, kind=kind, what=what, before=gap.inner, after=gap.outer, is_breaking=(field, what) in breaking
        )
    for (field, what), change in [item for item in found.items() if item[0][1] in CAME_OR_WENT]:
        within = [found.pop(key) for key in list(found) if key[0] == field]  # one line for a field, not three
        is_breaking = any(one.is_breaking for one in within)
        kind = "removed" if what == "removed" else "added"
        found[field, "field"] = replace(change, kind=kind, what="field", is_breaking=is_breaking)
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
        pair = (_name_of(inner), _name_of(outer))
        if pair in self._under_way:  # a schema that contains itself: what is wrong with it is found further up
            return []
        self._under_way.add(pair)
        try:
            return self._compare_branches(
                branches(inner, self._inner), branches(outer, self._outer), path, (inner, outer)
            )
        finally:
            self._under_way.discard(pair)

    def _compare_branches(
        self, inner: list[Branch], outer: list[Branch], path: str, said: tuple[Json, Json]
    ) -> list[_Gap]:
        found: list[_Gap] = []
        if {} in outer:  # anything goes
            return found
        refused = [value for value in _values(inner) if not any(allows(branch, value) for branch in outer)]
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
        ours, theirs = (_said(part, "default") for part in said)
        if ours != theirs:
            found.append(_Gap(path, "default", ours, theirs))
        return found

    def _compare_kinds(self, inner: Branch, outer: Branch, path: str) -> list[_Gap]:
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
            refers = keyword == "$ref" or '"$ref"' in text_of(outer[keyword])  # to something else on the other side
            if refers or inner.get(keyword, ...) != outer[keyword]:
                found.append(_Gap(path, keyword, _said(inner, keyword), _said(outer, keyword)))
        return found

    def _compare_fields(self, inner: Branch, outer: Branch, path: str) -> list[_Gap]:
        found: list[_Gap] = []
        ours, theirs = inner.get("properties", {}), outer.get("properties", {})
        needed, given = set(outer.get("required", ())), set(inner.get("required", ()))
        rest, other_rest = inner.get("additionalProperties", True), outer.get("additionalProperties", True)
        found += [_Gap(f"{path}.{name}", "required", "optional", "required") for name in sorted(needed - given)]
        for name in sorted(ours.keys() | theirs.keys()):
            field = f"{path}.{name}"
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
        text = _listed(branches(schema, root))
        what = "removed" if is_inner == self._is_old_inner else "added"
        return _Gap(field, what, text if is_inner else None, None if is_inner else text)

    def _compare_items(self, inner: Branch, outer: Branch, path: str) -> list[_Gap]:
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


def _name_of(schema: Json) -> str:
    """What a schema is known by while it is compared: where it is kept, else all of it."""
    return str(schema["$ref"]) if isinstance(schema, dict) and "$ref" in schema else text_of(schema)


def _weight(gaps: Iterable[_Gap]) -> int:
    """Fewer differences, the better the match; what refuses nothing counts nothing."""
    return sum(gap.what not in INFORMATION for gap in gaps)


def _values(alternatives: list[Branch]) -> Iterator[Json]:
    for branch in alternatives:
        yield from branch.get("enum", ())


def _may_hold(inner: Branch, outer: Branch) -> bool:
    one, other = inner.get("type"), outer.get("type")
    return one is not None and (one == other or (one == "integer" and other == "number"))


def _numbers(inner: Branch, outer: Branch, path: str) -> Iterator[_Gap]:
    for bound, strict, sign in EDGES:
        ours, theirs = edge(inner, bound, strict, sign), edge(outer, bound, strict, sign)
        if ours < theirs:
            yield _Gap(path, bound, _edge_text(inner, bound, strict), _edge_text(outer, bound, strict))
    step = outer.get("multipleOf")
    own = inner.get("multipleOf", 1 if inner.get("type") == "integer" else None)
    if step is not None and (own is None or Fraction(str(own)) % Fraction(str(step)) != 0):
        yield _Gap(path, "multipleOf", _said(inner, "multipleOf"), _said(outer, "multipleOf"))


def _edge_text(schema: Branch, bound: str, strict: str) -> str | None:
    plain = _said(schema, bound)
    return plain if strict not in schema else f"{_said(schema, strict)} (exclusive)"


def _sizes(inner: Branch, outer: Branch, path: str, low: str, high: str) -> Iterator[_Gap]:
    ours = inner.get(low, 0), inner.get(high, math.inf)
    theirs = outer.get(low, 0), outer.get(high, math.inf)
    if ours[0] < theirs[0]:
        yield _Gap(path, low, _said(inner, low), _said(outer, low))
    if ours[1] > theirs[1]:
        yield _Gap(path, high, _said(inner, high), _said(outer, high))


def _listed(alternatives: list[Branch]) -> str:
    """Alternatives in words: `number | null`, `"monthly" | "yearly"`."""
    words = [
        " | ".join(text_of(value) for value in branch["enum"]) if "enum" in branch else branch.get("type", "anything")
        for branch in alternatives
    ]
    text = " | ".join(dict.fromkeys(words)) or "nothing"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _shown(value: Json) -> str:
    text = text_of(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _said(schema: Json, keyword: str) -> str | None:
    return _shown(schema[keyword]) if isinstance(schema, dict) and keyword in schema else None
