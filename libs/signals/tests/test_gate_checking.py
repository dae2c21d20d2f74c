"""Before any traffic: who does not replay its golden examples, or breaks callers, gets none."""

import json
from pathlib import Path
from typing import Any

import pytest
from gate_servers import BUNDLES, Arm, arms
from gate_windows import gate_plan, load_plan
from msgspec.structs import replace

from slipway_bundle.errors import FileError
from slipway_signals.gate.checking import ArmUnreachableError, check_compatible, check_golden, read_golden
from slipway_signals.gate.load_plan import Target
from slipway_signals.gate.plan import GatePlan


def plan(stable: Arm, candidate: Arm, **more: Any) -> GatePlan:
    """A plan for two servers."""
    targets = {"stable": Target(url=stable.url), "candidate": Target(url=candidate.url, key_env="CANDIDATE_KEY")}
    return gate_plan(load=replace(load_plan(), arms=targets), **more)


def golden(folder: Path, tolerance: float = 0.0) -> Path:
    """Three examples."""
    path = folder / "golden.jsonl"
    lines = (
        {"model": "m", "input": {"x": x}, "output": {"y": 2.0 * x}, "tolerance": {"absolute": tolerance}}
        for x in (1.0, 2.0, 3.0)
    )
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def document(version: str, *fields: str) -> dict[str, object]:
    """What a slipway server says of an endpoint that answers these fields."""
    answer = {"type": "object", "properties": {name: {"type": "number"} for name in fields}, "required": list(fields)}
    row = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    operation = {
        "tags": ["m"],
        "requestBody": {"content": {"application/json": {"schema": row}}},
        "responses": {"200": {"content": {"application/json": {"schema": answer}}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "m", "version": version},
        "x-slipway": {"services": [{"name": "m", "version": version}]},
        "paths": {"/predict": {"post": operation}},
    }


def test_golden_examples_replay_on_both_arms_and_are_marked_synthetic(tmp_path: Path) -> None:
    """With the key of whoever asks."""
    examples = read_golden(golden(tmp_path))
    with arms() as (stable, candidate):
        checks = check_golden(
            plan(stable, candidate, digests=BUNDLES),
            {"stable": examples, "candidate": examples},
            {"CANDIDATE_KEY": "secret"},
        )

        assert [(check.name, check.arm, check.status) for check in checks] == [
            ("golden", "stable", "ok"),
            ("identity", "stable", "ok"),
            ("golden", "candidate", "ok"),
            ("identity", "candidate", "ok"),
        ]
        assert {seen["x-slipway-synthetic"] for seen in stable.headers_seen} == {"1"}
        assert {seen.get("authorization") for seen in candidate.headers_seen} == {"Bearer secret"}


@pytest.mark.parametrize(("tolerance", "status"), [(0.0, "failed"), (0.01, "ok")])
def test_another_answer_fails_unless_it_is_close_enough(tmp_path: Path, tolerance: float, status: str) -> None:
    """The check names the example and the field."""
    examples = read_golden(golden(tmp_path, tolerance))
    with arms(adds=0.001) as (stable, candidate):
        checks = check_golden(plan(stable, candidate), {"candidate": examples}, {})

    found = {check.arm: check for check in checks if check.name == "golden"}
    assert found["stable"].status == "skipped"
    assert found["candidate"].status == status
    assert ("$.y" in found["candidate"].text) == (status == "failed")


def test_an_arm_that_fails_or_is_somebody_else_is_told(tmp_path: Path) -> None:
    """Status and digest."""
    examples = read_golden(golden(tmp_path))
    with arms(fails=1.0) as (stable, candidate):
        wanted = plan(stable, candidate, digests={"candidate": BUNDLES["stable"]})
        checks = check_golden(wanted, {"candidate": examples}, {})

    assert [(check.name, check.status) for check in checks] == [
        ("golden", "skipped"),
        ("golden", "failed"),
        ("identity", "failed"),
    ]
    assert "got status 500" in checks[1].text
    assert len(checks[1].details) == 3


def test_a_removed_field_breaks_callers_without_a_new_major_version() -> None:
    """Before any traffic."""
    with arms() as (stable, candidate):
        stable.document = document("1.0.0", "y", "z")
        candidate.document = document("1.1.0", "y")
        both = plan(stable, candidate).load
        assert both is not None
        minor = check_compatible(both, {})
        candidate.document = document("2.0.0", "y")
        major = check_compatible(both, {})

    assert (minor.arm, minor.status) == ("candidate", "failed")
    assert "z" in minor.text
    assert major.status == "ok"


def test_a_server_that_shows_no_interface_is_not_checked_and_that_is_said() -> None:
    """Other servers can be compared, too."""
    with arms() as (stable, candidate):
        both = plan(stable, candidate).load
        assert both is not None
        check = check_compatible(both, {})

    assert (check.status, check.name) == ("skipped", "compatibility")
    assert "404" in check.text


def test_a_server_that_is_not_there_is_an_error_and_no_verdict() -> None:
    """Exit status 3."""
    with arms() as (stable, candidate):
        gone = plan(stable, candidate).load
    assert gone is not None

    with pytest.raises(ArmUnreachableError, match="stable at http") as refused:
        check_compatible(gone, {})
    assert refused.value.exit_status == 3


def test_golden_examples_that_are_not_there_are_named(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(FileError, match="nothing"):
        read_golden(tmp_path / "nothing")
