"""`slipway serve`: what it says before it serves, and that it serves."""

from pathlib import Path

import pytest
from cli_commands import Slipway, post, served

GOOD = {"tenure_months": 2, "monthly_charges": 96.5, "support_calls": 5, "income": None, "contract": "monthly"}


def test_print_config_names_the_origin_of_each_value(
    with_churn: Slipway, churn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_WORKERS", "3")

    said = with_churn("serve", churn, "--port", "9000", "--print-config", "--json")

    settings = said.document["settings"]
    assert said.status == 0
    assert settings["server.port"] == {"value": 9000, "origin": "flag --port"}
    assert settings["server.workers"] == {"value": 3, "origin": "environment SLIPWAY_WORKERS"}
    assert settings["server.host"]["origin"] == "slipway.toml"
    assert settings["server.stop_s"]["origin"] == "default"


def test_print_config_is_a_line_for_each_setting(with_churn: Slipway) -> None:
    said = with_churn("serve", "churn", "--print-config")

    assert said.status == 0
    assert any(line.startswith("server.port = 8000") for line in said.out.splitlines())
    assert all("# " in line for line in said.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nothing-of-that-name"], "ref_not_found"),
        (["./nowhere"], "usage"),
        ([], "usage"),
        (["churn", "--port", "70000"], "usage"),
        (["churn", "--reload"], "usage"),
    ],
)
def test_what_cannot_be_served_is_wrong_usage(with_churn: Slipway, arguments: list[str], code: str) -> None:
    said = with_churn("serve", *arguments, "--json")

    assert said.status == 2
    assert said.document["error"]["code"] == code


def test_a_bundle_is_served_and_drained(built_home: Path) -> None:
    with served("churn", home=built_home) as url:
        good, bad = post(f"{url}/predict", GOOD), post(f"{url}/predict", {**GOOD, "contract": "weekly"})

    assert good[0] == 200
    assert 0.8 < good[1]["churn_probability"] < 0.95
    assert bad[0] == 422
