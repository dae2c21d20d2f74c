"""Changes of JSON Schemas, judged by msgspec's own schemas and by another's validator."""

from typing import Annotated, Any, Literal

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from slipway_bundle.schema_changes import SchemaChange, request_changes, response_changes
from slipway_bundle.shapes import SchemaError


class Customer(Struct, forbid_unknown_fields=True):
    months: Annotated[float, Meta(ge=0, le=600)]
    calls: int
    income: float | None
    contract: Literal["monthly", "yearly"]


def changed(**fields: Any) -> dict[str, Any]:
    """The schema of a customer with some fields replaced, added or, by None, taken away."""
    kept = {name: kind for name, kind in Customer.__annotations__.items() if name not in fields}
    given = [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in fields.items() if kind]
    made = msgspec.defstruct("Customer", [*kept.items(), *given], kw_only=True, forbid_unknown_fields=True)
    return msgspec.json.schema(made)


BEFORE = changed()

REQUESTS = {
    "a field goes": (changed(calls=None), "$.calls removed field", True),
    "a field that must be sent comes": (changed(city=str), "$.city added field", True),
    "a field with a default comes": (changed(city=(str, "")), "$.city added field", False),
    "a range shrinks": (changed(months=Annotated[float, Meta(ge=0, le=60)]), "$.months narrowed maximum", True),
    "a range grows": (changed(months=Annotated[float, Meta(ge=0)]), "$.months widened maximum", False),
    "an edge goes out": (changed(months=Annotated[float, Meta(gt=0, le=600)]), "$.months narrowed minimum", True),
    "a value goes": (changed(contract=Literal["monthly"]), "$.contract narrowed values", True),
    "a value comes": (changed(contract=Literal["monthly", "yearly", "daily"]), "$.contract widened values", False),
    "null goes": (changed(income=float), "$.income narrowed values", True),
    "a number becomes whole": (changed(income=int | None), "$.income narrowed type", True),
    "a whole number becomes any": (changed(calls=float), "$.calls widened type", False),
    "another type": (changed(calls=str), "$.calls changed type", True),
    "words become free text": (changed(contract=str), "$.contract widened type", False),
    "words become long text": (
        changed(contract=Annotated[str, Meta(min_length=7)]),
        "$.contract narrowed values, $.contract widened type",
        True,
    ),
}


@pytest.mark.parametrize(("after", "expected", "is_breaking"), REQUESTS.values(), ids=REQUESTS)
def test_each_change_of_a_request_is_named_and_weighed(after: dict[str, Any], expected: str, is_breaking: bool) -> None:
    changes = request_changes(BEFORE, after)

    assert ", ".join(f"{change.field} {change.kind} {change.what}" for change in changes) == expected
    assert any(change.is_breaking for change in changes) is is_breaking


RESPONSES = {
    "a field goes": (changed(calls=None), True),
    "a field comes that callers refuse": (changed(city=(str, "")), True),
    "a field may be missing": (changed(calls=(int, 0)), True),
    "a range shrinks": (changed(months=Annotated[float, Meta(ge=0, le=60)]), False),
    "a range grows": (changed(months=float), True),
    "a value goes": (changed(contract=Literal["monthly"]), False),
    "a value comes": (changed(contract=Literal["monthly", "yearly", "daily"]), True),
    "null goes": (changed(income=float), False),
    "null comes": (changed(calls=int | None), True),
    "a number becomes whole": (changed(income=int | None), False),
}


@pytest.mark.parametrize(("after", "is_breaking"), RESPONSES.values(), ids=RESPONSES)
def test_a_response_breaks_the_other_way_round(after: dict[str, Any], is_breaking: bool) -> None:
    changes = response_changes(BEFORE, after)

    assert changes
    assert any(change.is_breaking for change in changes) is is_breaking


def test_a_field_that_comes_is_fine_for_callers_who_ignore_what_they_do_not_know() -> None:
    class Answer(Struct):
        risk: float

    class Longer(Struct):
        risk: float
        reason: str

    (change,) = response_changes(msgspec.json.schema(Answer), msgspec.json.schema(Longer))

    assert (change.field, change.kind, change.is_breaking) == ("$.reason", "added", False)
    assert change.after == "string"


def test_what_is_deep_inside_has_its_path() -> None:
    class Line(Struct):
        score: Annotated[float, Meta(le=1)]
        box: tuple[float, float]

    class Worse(Struct):
        score: float
        box: tuple[float, str]

    class Page(Struct):
        lines: list[Line]

    class WorsePage(Struct):
        lines: list[Worse]

    before, after = msgspec.json.schema(Page), msgspec.json.schema(WorsePage)

    fields = [change.field for change in response_changes(before, after) if change.is_breaking]

    assert fields == ["$.lines[].box[1]", "$.lines[].score"]


def test_lengths_are_ranges_too() -> None:
    before = msgspec.json.schema(Annotated[list[str], Meta(max_length=8)])
    after = msgspec.json.schema(Annotated[list[str], Meta(min_length=1, max_length=4)])

    found = [(change.what, change.before, change.after) for change in request_changes(before, after)]

    assert found == [("maxItems", "8", "4"), ("minItems", None, "1")]


def test_a_branch_of_a_tagged_union_may_not_go() -> None:
    class Card(Struct, tag="card"):
        number: str

    class Bill(Struct, tag="bill"):
        month: int

    both, one = msgspec.json.schema(Card | Bill), msgspec.json.schema(Card)

    assert any(change.is_breaking for change in request_changes(both, one))
    assert not any(change.is_breaking for change in request_changes(one, both))


class Node(Struct):
    value: int
    children: list["Node"] = []


class Other(Struct):
    value: Annotated[int, Meta(ge=0)]
    children: list["Other"] = []


def test_a_schema_that_contains_itself_is_compared_once() -> None:
    (change,) = request_changes(msgspec.json.schema(Node), msgspec.json.schema(Other))

    assert (change.field, change.what, change.is_breaking) == ("$.value", "minimum", True)


def test_what_it_cannot_compare_breaks() -> None:
    """`not` means something, and it is not known what."""
    before = {"type": "string"}
    after = {"type": "string", "not": {"const": "x"}}

    assert request_changes(before, after)[0].is_breaking
    assert not response_changes(before, after)[0].is_breaking
    assert request_changes(after, after) == ()


def test_words_for_people_are_no_change() -> None:
    before = {"type": "number", "title": "One", "description": "a", "examples": [1]}

    assert request_changes(before, {"type": "number", "title": "Two"}) == ()


def test_another_default_is_told_and_breaks_nothing() -> None:
    (change,) = request_changes({"type": "number", "default": 1}, {"type": "number", "default": 2})

    assert change == SchemaChange(field="$", kind="changed", what="default", before="1", after="2", is_breaking=False)


@pytest.mark.parametrize(
    "schema",
    [{"type": 3}, {"$ref": "#/$defs/nowhere"}, {"$ref": "#"}, {"properties": []}, {"multipleOf": 0}, 7],
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError):
        request_changes({"type": "string"}, schema)


NUMBERS = st.sampled_from([-1, 0, 0.5, 1, 2, 3, 5])
WORDS = st.sampled_from(["", "a", "ab", "abc"])
NAMES = st.sampled_from(["p", "q", "r"])


def some(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the keywords."""
    return st.fixed_dictionaries({}, optional=keywords)


def with_type(kind: str, keywords: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return keywords.map(lambda words: {"type": kind, **words})


SIZES = st.integers(0, 3)
LEAVES = st.one_of(
    with_type("number", some(minimum=NUMBERS, exclusiveMaximum=NUMBERS, multipleOf=st.sampled_from([0.5, 1, 2]))),
    with_type("integer", some(exclusiveMinimum=NUMBERS, maximum=NUMBERS, multipleOf=st.sampled_from([1, 2, 3]))),
    with_type("string", some(minLength=SIZES, maxLength=SIZES, pattern=st.sampled_from(["b", "^a"]))),
    st.lists(st.one_of(NUMBERS, WORDS, st.none(), st.booleans()), min_size=1).map(lambda values: {"enum": values}),
    st.one_of(NUMBERS, WORDS).map(lambda value: {"const": value}),
    st.sampled_from(["boolean", "null"]).map(lambda kind: {"type": kind}),
    st.just({}),
    st.just(True),
)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(NAMES, inner, max_size=3)
    rest = st.one_of(st.booleans(), inner)
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
        with_type("object", some(properties=fields, required=st.lists(NAMES, unique=True), additionalProperties=rest)),
        with_type("array", some(items=rest, prefixItems=st.lists(inner, max_size=2), minItems=SIZES, maxItems=SIZES)),
    )


SCHEMAS = st.recursive(LEAVES, grown, max_leaves=6)
VALUES = st.recursive(
    st.one_of(NUMBERS, WORDS, st.none(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


def closed(schema: Any) -> Any:
    """The values that callers send who know the schema: no field that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {word: closed(value) for word, value in schema.items() if word not in {"enum", "const", "required"}}
    made |= {word: schema[word] for word in ("enum", "const", "required") if word in schema}
    if schema.get("type") == "object" and schema.get("additionalProperties", True) in (True, {}):
        made["additionalProperties"] = False
    return made


def accepts(schema: Any, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@settings(max_examples=300)
@given(before=SCHEMAS, after=SCHEMAS, values=st.lists(VALUES, min_size=5, max_size=10))
def test_what_is_called_compatible_never_refuses_what_was_accepted(before: Any, after: Any, values: list[Any]) -> None:
    is_compatible = not any(change.is_breaking for change in request_changes(before, after))

    refused = [value for value in values if accepts(closed(before), value) and not accepts(after, value)]

    assert not (is_compatible and refused), refused


@settings(max_examples=300)
@given(before=SCHEMAS, after=SCHEMAS, values=st.lists(VALUES, min_size=5, max_size=10))
def test_what_is_called_compatible_never_answers_what_never_came(before: Any, after: Any, values: list[Any]) -> None:
    is_compatible = not any(change.is_breaking for change in response_changes(before, after))

    unknown = [value for value in values if accepts(after, value) and not accepts(before, value)]

    assert not (is_compatible and unknown), unknown


@given(schema=SCHEMAS)
def test_an_equal_schema_has_no_change(schema: Any) -> None:
    copy = msgspec.json.decode(msgspec.json.encode(schema))

    assert request_changes(schema, copy) == ()
    assert response_changes(schema, copy) == ()
