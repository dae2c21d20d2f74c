"""Inputs that are made up, and inputs that are read: what is sent, before it is sent."""

import random
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from msgspec import Meta, Struct

from slipway_bundle import ConfigError
from slipway_loadtests.making import Maker
from slipway_loadtests.payloads import load_payloads
from slipway_signals.capture.parts import make_table, write_part
from slipway_signals.capture.records import Column, ModelFormat, Record
from slipway_signals.gate.load_plan import LoadPlan


class Inner(Struct, forbid_unknown_fields=True):
    """In another."""

    share: Annotated[float, Meta(gt=0, lt=1)]


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of every kind of field that a service's row has."""

    months: Annotated[float, Meta(ge=0, le=600)]
    calls: Annotated[int, Meta(ge=1, le=9)]
    even: Annotated[int, Meta(ge=0, le=100, multiple_of=2)]
    below: Annotated[float, Meta(lt=5)]
    income: Annotated[float, Meta(ge=0)] | None
    plan: Literal["monthly", "yearly"]
    name: Annotated[str, Meta(min_length=2, max_length=5)]
    code: Annotated[str, Meta(pattern="^[A-Z]{2}$")]
    charges: Annotated[list[float], Meta(min_length=1, max_length=3)]
    inner: Inner
    is_new: bool
    note: str = ""


EXAMPLE = {"code": "DE"}
SCHEMAS, COMPONENTS = msgspec.json.schema_components([Row], ref_template="#/components/schemas/{name}")
SCHEMA: dict[str, Any] = SCHEMAS[0]
EDGES: dict[str, set[Any]] = {
    "months": {0.0, 600.0},
    "calls": {1, 9},
    "below": {np.nextafter(5.0, 0.0)},
    "name": {"aa", "aaaaa"},
}
DOCUMENT = {
    "components": {"schemas": COMPONENTS},
    "paths": {
        "/predict": {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": SCHEMA, "example": EXAMPLE}}},
                "responses": {"200": {"content": {"application/json": {"schema": {
                    "type": "object", "required": ["score", "label"],
                    "properties": {"score": {"type": "number"}, "label": {"type": "string"}},
                }}}}},
            }
        }
    },
}  # fmt: skip


def maker() -> Maker:
    return Maker(COMPONENTS, random.Random(1))  # noqa: S311  # repeatable on purpose


def plan(scenario: dict[str, Any], seed: int = 1) -> LoadPlan:
    raw = {"arms": {"stable": {"url": "http://127.0.0.1:1"}}, "seed": seed, "scenarios": [scenario]}
    return msgspec.convert(raw, LoadPlan)


@pytest.mark.parametrize("kind", ["valid", "boundary"])
def test_made_inputs_keep_every_rule_of_the_schema(kind: str) -> None:
    make = getattr(maker(), kind)

    rows = [msgspec.convert(make(SCHEMA, EXAMPLE), Row, strict=False) for _ in range(500)]

    assert len({row.months for row in rows}) > 100
    assert {row.plan for row in rows} == {"monthly", "yearly"}
    assert {row.income is None for row in rows} == {True, False}
    assert all(row.code == "DE" for row in rows)


def test_edges_are_reached() -> None:
    rows = [msgspec.to_builtins(maker_.boundary(SCHEMA, EXAMPLE)) for maker_ in [maker()] for _ in range(1_000)]

    assert all(edges <= {row[name] for row in rows} for name, edges in EDGES.items())


def test_an_invalid_input_is_always_refused_and_is_wrong_in_many_ways() -> None:
    make = maker()

    wrong = set()
    for _ in range(500):
        with pytest.raises(msgspec.ValidationError) as refused:
            msgspec.convert(make.invalid(SCHEMA, EXAMPLE), Row)
        wrong.add(str(refused.value))

    assert any("missing required field" in words for words in wrong)
    assert any("unknown field" in words for words in wrong)
    assert sum("$." in words for words in wrong) > 8


def test_the_mix_is_kept_and_the_same_seed_makes_the_same_inputs() -> None:
    wanted = plan({"mix": {"valid": 0.7, "boundary": 0.2, "invalid": 0.1}, "payloads": {"count": 2_000}})

    made = load_payloads(wanted, lambda: DOCUMENT)

    shares = {kind: sum(one.kind == kind for one in made) / len(made) for kind in ("valid", "boundary", "invalid")}
    assert shares == pytest.approx({"valid": 0.7, "boundary": 0.2, "invalid": 0.1}, abs=0.03)
    assert made == load_payloads(wanted, lambda: DOCUMENT)
    assert made != load_payloads(msgspec.structs.replace(wanted, seed=2), lambda: DOCUMENT)
    assert {one.required for one in made} == {frozenset({"score"})}


def test_what_cannot_be_made_is_refused_with_the_way_out() -> None:
    document = msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    del document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]

    with pytest.raises(ConfigError, match=r"no text can be made for `\$\.code`.*\^\[A-Z\]") as refused:
        load_payloads(plan({}), lambda: document)

    assert refused.value.hint == "give a file of inputs, or a golden example to the service"


def test_captured_inputs_are_sent_as_they_were(tmp_path: Path) -> None:
    kept = ModelFormat(
        model="churn", version="1", prediction=(Column(name="score", type="float64"),),
        features=(Column(name="months", type="float64"), Column(name="inner.share", type="float64")),
    )  # fmt: skip
    _write(tmp_path, kept, [[12.0, 0.5], [24.0, None]])

    read = load_payloads(plan({"payloads": {"source": "capture", "path": str(tmp_path), "count": 3}}), dict)

    assert [msgspec.json.decode(one.body) for one in read] == [
        {"months": 12.0, "inner": {"share": 0.5}},
        {"months": 24.0, "inner": {"share": None}},
        {"months": 12.0, "inner": {"share": 0.5}},
    ]
    assert {one.kind for one in read} == {"recorded"}


def test_captured_inputs_that_were_redacted_cannot_be_sent_again(tmp_path: Path) -> None:
    hidden = Column(name="email.hash", type="string", kind="text", action="hash")
    _write(tmp_path, ModelFormat(model="churn", version="1", features=(hidden,), prediction=()), [["ab"]])

    with pytest.raises(ConfigError, match=r"cannot be sent again: 'email.hash' was not kept as it was"):
        load_payloads(plan({"payloads": {"source": "capture", "path": str(tmp_path)}}), dict)


@pytest.mark.parametrize(("text", "words"), [("{", "line 1 of .* is not JSON"), ("\n", "has no input")])
def test_a_file_without_inputs_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "inputs.jsonl"
    path.write_text(text)

    with pytest.raises(ConfigError, match=words):
        load_payloads(plan({"payloads": {"source": "file", "path": str(path)}}), dict)


def _write(folder: Path, model: ModelFormat, features: list[list[Any]]) -> None:
    answers = [0.1 for _ in model.prediction]
    records = [
        Record(
            model=0, ts=float(number), request_id=str(number), trace_id=None, subject_key=None, status=200,
            latency_s=0.1, kept=0, sample_weight=1.0, is_cut=False, features=row, prediction=answers,
        )
        for number, row in enumerate(features)
    ]  # fmt: skip
    write_part(folder / "part-0.parquet", make_table(model, records))
