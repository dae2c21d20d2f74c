"""Stack settings: unknown keys are refused, secrets stay secret, editors know what there is."""

from typing import Literal

import msgspec
import pulumi
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # has no types
from msgspec import Struct
from platform_runs import run

from slipway_platform.settings import Secret, SettingsError, convert_settings, editor_schema, load_settings


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: int = 1
    password: Secret | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    mode: Literal["a", "b"] = "a"
    count: int = 1
    is_on: bool = False
    table: Table = Table()
    tables: dict[str, Table] = {}
    key: Secret | None = None


def convert(values: dict[str, object], *secrets: str) -> Settings:
    return convert_settings(Settings, "slipway-test", values, frozenset(secrets))


def test_values_come_as_pulumi_hands_them_over() -> None:
    """Everything is text: JSON where it is a table, a number or a boolean."""
    settings = convert({"name": "123", "count": "3", "is_on": "true", "table": '{"size": 2}', "tables": '{"a": {}}'})

    assert settings == Settings(name="123", count=3, is_on=True, table=Table(size=2), tables={"a": Table()})


@pytest.mark.parametrize(
    ("values", "says", "hint"),
    [
        ({"name": "n", "coutn": "3"}, "slipway-test:coutn is no setting", "did you mean `count`?"),
        ({"name": "n", "table": '{"sizes": 3}'}, "slipway-test:table.sizes is no setting", "did you mean `size`?"),
        ({"name": "n", "tables": '{"a": {"sise": 3}}'}, "slipway-test:tables.a.sise", "did you mean `size`?"),
        ({"count": "3"}, "slipway-test:name is not set", "pulumi config set name"),
        ({"name": "n", "count": "many"}, "slipway-test:count cannot be used: expected `int`, got `str`", ""),
        ({"name": "n", "mode": "c"}, "slipway-test:mode cannot be used: invalid enum value 'c'", ""),
        ({"name": "n", "table": '{"size": "x"}'}, "slipway-test:table.size cannot be used: expected `int`", ""),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(values: dict[str, object], says: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        convert(values)

    assert says in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("values", [{"name": "n", "key": "hunter2"}, {"name": "n", "table": '{"password": "hunter2"}'}])
def test_a_secret_in_plain_text_is_refused_and_not_repeated(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="holds a secret in plain text") as caught:
        convert(values)

    assert "hunter2" not in str(caught.value)


def test_a_secret_that_would_become_plain_text_is_refused() -> None:
    with pytest.raises(SettingsError, match="slipway-test:name is a secret in the stack's file"):
        convert({"name": "n"}, "name")


def test_a_bad_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        convert({"name": "n", "table": '{"password": "hunter2", "size": "x"}'}, "table")

    assert "hunter2" not in str(caught.value)
    assert "slipway-test:table is a secret" in caught.value.message


def test_secrets_become_secret_outputs() -> None:
    shown: dict[str, object] = {}

    def program() -> None:
        settings = load_settings(Settings, "slipway-test")
        assert settings.key is not None
        assert settings.table.password is not None
        pulumi.export("key", settings.key.output)
        shown["repr"] = repr(settings)
        shown["both"] = pulumi.Output.all(settings.key.output, settings.table.password.output)

    config = {"slipway-test:name": "n", "slipway-test:key": "hunter2", "slipway-test:table": '{"password": "hunter3"}'}
    outputs = run(program, config, secrets=("slipway-test:key", "slipway-test:table")).outputs

    assert outputs["key"]["value"] == "hunter2"  # wrapped: Pulumi encrypts it in the state
    assert "hunter" not in str(shown["repr"])


def test_keys_of_others_are_left_alone() -> None:
    seen: list[Settings] = []
    config = {"slipway-test:name": "n", "aws:region": "eu-central-1", "slipway-testing:other": "1"}

    run(lambda: seen.append(load_settings(Settings, "slipway-test")), config)

    assert seen == [Settings(name="n")]


def test_editors_refuse_what_the_program_refuses() -> None:
    schema = editor_schema(Settings, "slipway-test")
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)

    good = {
        "slipway-test:name": "n",
        "slipway-test:count": 2,
        "aws:region": "x",
        "slipway-test:key": {"secure": "v1:…"},
    }
    assert check.is_valid({"config": good})
    for bad in ({"slipway-test:coutn": 3}, {"slipway-test:count": "many"}, {"slipway-test:key": "hunter2"}):
        assert not check.is_valid({"config": good | bad}), bad
    assert not check.is_valid({"config": {"slipway-test:count": 2}})


def test_secret_is_no_text_for_msgspec() -> None:
    """A Secret cannot be written out by accident."""
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret("hunter2"))
