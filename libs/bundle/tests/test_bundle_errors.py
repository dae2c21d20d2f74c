"""The error tree: codes are unique, exit statuses follow from the family, the tree in the docstring is true."""

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest

import slipway_bundle
from slipway_bundle import errors
from slipway_bundle.errors import HostError, IntegrityError, SlipwayError, UsageError


def every_class(root: type[SlipwayError] = SlipwayError) -> Iterator[type[SlipwayError]]:
    for module in pkgutil.iter_modules(slipway_bundle.__path__):
        if module.name != "__main__":
            importlib.import_module(f"slipway_bundle.{module.name}")
    waiting = [root]
    while waiting:
        found = waiting.pop()
        if found.__module__.startswith("slipway_bundle."):
            yield found
        waiting.extend(found.__subclasses__())


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [found.code for found in every_class()]

    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize(("family", "status"), [(UsageError, 2), (IntegrityError, 1), (HostError, 3)])
def test_the_exit_status_follows_from_the_family(family: type[SlipwayError], status: int) -> None:
    statuses = {found.exit_status for found in every_class(family)}

    assert statuses == {status}


def test_the_tree_in_the_docstring_names_every_class_of_the_module_with_its_code() -> None:
    own = [found for found in every_class() if found.__module__ == errors.__name__]

    drawn = errors.__doc__ or ""

    missing = [found.__name__ for found in own if found.__name__ not in drawn]
    assert missing == []
    leaves = [found for found in own if found not in {SlipwayError, UsageError, IntegrityError, HostError}]
    assert [found.code for found in leaves if found.code not in drawn] == []


def test_an_error_renders_as_one_json_object() -> None:
    error = errors.ConfigError("`a` is wrong", hint="write `b`", path="slipway.toml", line=3)

    rendered = json.loads(json.dumps(error.as_dict()))

    assert rendered == {
        "code": "config_invalid",
        "message": "`a` is wrong",
        "exit_status": 2,
        "hint": "write `b`",
        "fields": {"path": "slipway.toml", "line": 3},
    }


def test_the_text_of_an_error_ends_with_its_hint() -> None:
    with_hint = errors.ConfigError("`a` is wrong", hint="write `b`")
    without = errors.ConfigError("`a` is wrong")

    assert (str(with_hint), str(without)) == ("`a` is wrong\nhint: write `b`", "`a` is wrong")
