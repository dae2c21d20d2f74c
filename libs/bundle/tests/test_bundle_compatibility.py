"""Whether one version of a service may take the place of another: routes, tensors and version numbers."""

from pathlib import Path

import pytest
from bundle_fakes import edit
from msgspec.structs import replace

from slipway_bundle.build import build
from slipway_bundle.compatibility import (
    Compatibility,
    Contract,
    OtherServiceError,
    compare_bundles,
    compare_contracts,
    contract_of_openapi,
)
from slipway_bundle.description import EndpointDescription
from slipway_bundle.errors import UsageError
from slipway_bundle.schema import Datatype, ModelSchema, TensorSpec
from slipway_bundle.store import Store

CHARGES = TensorSpec(name="charges", datatype="FP32", ge=0, le=600)
RISK = TensorSpec(name="risk", datatype="FP64", ge=0, le=1)


def contract(
    *, version: str = "1.0.0", inputs: tuple[TensorSpec, ...] = (CHARGES,), outputs: tuple[TensorSpec, ...] = (RISK,)
) -> Contract:
    return Contract(name="tiny", version=version, models={"m": ModelSchema(inputs=inputs, outputs=outputs)})


def judged(after: Contract, before: Contract | None = None) -> Compatibility:
    return compare_contracts(before or contract(), after)


def breaking(found: Compatibility) -> list[str]:
    return [f"{one.where} {one.field} {one.kind} {one.what}" for one in found.findings if one.is_breaking]


def test_a_contract_is_compatible_with_itself() -> None:
    found = judged(contract())

    assert found.is_compatible
    assert found.findings == ()


@pytest.mark.parametrize("datatype", ["FP64", "FP16", "INT32"])
def test_another_datatype_breaks_who_sends_bytes(datatype: Datatype) -> None:
    found = judged(contract(inputs=(replace(CHARGES, datatype=datatype),)))

    assert breaking(found)
    assert {one.field for one in found.findings} == {"$.charges"}


def test_a_new_input_breaks_since_every_tensor_must_be_sent() -> None:
    found = judged(contract(inputs=(CHARGES, TensorSpec(name="calls", datatype="INT64"))))

    assert breaking(found) == ["model m inputs $.calls added field"]


def test_a_new_output_breaks_nobody() -> None:
    found = judged(contract(outputs=(RISK, TensorSpec(name="reason", datatype="BYTES", text=True))))

    assert found.is_compatible
    assert [(one.field, one.kind) for one in found.findings] == [("$.reason", "added")]


def test_a_shape_may_grow_where_it_is_sent_and_shrink_where_it_is_read() -> None:
    fixed, free = (TensorSpec(name="pixels", datatype="UINT8", shape=(n, 3)) for n in (96, -1))

    assert judged(contract(inputs=(free,)), contract(inputs=(fixed,))).is_compatible
    assert breaking(judged(contract(inputs=(fixed,)), contract(inputs=(free,))))
    assert judged(contract(outputs=(fixed,)), contract(outputs=(free,))).is_compatible
    assert breaking(judged(contract(outputs=(free,)), contract(outputs=(fixed,))))


def test_a_missing_value_may_be_allowed_and_not_forbidden() -> None:
    nullable = contract(inputs=(replace(CHARGES, nullable=True),))

    assert judged(nullable).is_compatible
    assert breaking(judged(contract(), nullable)) == ["model m inputs $.charges narrowed values"]


def test_a_model_or_route_that_goes_breaks_and_one_that_comes_does_not() -> None:
    served = replace(contract(), endpoints=(EndpointDescription(path="/predict"),))
    bare = replace(contract(), models={})

    found = judged(bare, served)

    assert breaking(found) == ["POST /predict $ removed route", "model m $ removed model"]
    back = judged(served, bare)
    assert back.is_compatible
    assert {(one.what, one.kind) for one in back.findings} == {("route", "added"), ("model", "added")}


@pytest.mark.parametrize(
    ("before", "after", "is_major"),
    [
        ("1.4.2", "2.0.0", True),
        ("1.4.2", "v2.0.0-rc.1", True),
        ("1.4.2", "1.5.0", False),
        ("2.0.0", "1.9.0", False),
        ("0.3.1", "0.4.0", True),
        ("0.3.1", "0.3.2", False),
        ("0.0.1", "0.0.2", True),
        ("0.9.0", "1.0.0", True),
        ("1.0.0", "c-0123456789ab", False),
        ("1.2.3.4", "2.2.3.4", False),
    ],
)
def test_only_a_higher_major_version_may_break_its_callers(before: str, after: str, is_major: bool) -> None:
    found = judged(contract(version=after, inputs=()), contract(version=before))

    assert breaking(found)
    assert found.is_major is is_major
    assert found.is_compatible is is_major


def test_two_services_are_not_compared() -> None:
    with pytest.raises(OtherServiceError, match="'tiny' and 'large'"):
        judged(replace(contract(), name="large"))


def test_a_bundle_that_asks_for_more_cannot_take_the_place_of_another(folder: Path, store: Store) -> None:
    before = build(folder, store, environ={})
    edit(folder / "src/tiny_service/service.py", "y: float | None", "y: float")
    edit(folder / "golden.jsonl", "null", "0.5")
    edit(folder / "golden.jsonl", '"absolute": 1e-05', '"absolute": 10')
    after = build(folder, store, environ={})

    found = compare_bundles(store, before.ref, after.ref)

    assert breaking(found) == ["model tiny inputs $.y narrowed values"]
    assert not found.is_compatible
    assert found.before == before.ref
    assert found.after == after.ref
    assert compare_bundles(store, after.ref, before.ref).is_compatible


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"paths": 3}, r"\$\.paths"),
        ({"paths": {}}, "no service of slipway"),
        ({"paths": {}, "x-slipway": {"services": [{"name": n, "version": "1"} for n in "ab"]}}, "'a', 'b'"),
    ],
)
def test_another_document_is_refused_with_what_it_is(document: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        contract_of_openapi(document)
