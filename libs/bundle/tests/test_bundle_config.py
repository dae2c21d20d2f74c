"""`slipway.toml`: known keys, paths inside the folder, and `[runtime]` left alone."""

from pathlib import Path

import pytest

from slipway_bundle.config import CONFIG_NAME, load_config, parse_config
from slipway_bundle.errors import ConfigError, FileError

FOLDER = Path("service")
MINIMAL = """\
entry = "tiny.service:service"
[bundle.models.tiny]
file = "model/tiny.ubj"
format = "xgboost"
"""


def test_the_example_of_the_service_api_is_read_as_it_is_written() -> None:
    text = """\
entry = "churn_service.service:service"

[bundle.models.churn]
file = "model/churn.ubj"
format = "xgboost"
outputs = { churn_probability = "probability" }

[runtime.models.churn]
pool = { device = "cpu", replicas = 2 }

[runtime.endpoints."/infer"]
share = { detect = 0.4 }
"""

    config = parse_config(text, FOLDER)

    assert config.entry == "churn_service.service:service"
    assert config.bundle.models["churn"].outputs == {"churn_probability": "probability"}
    assert config.bundle.golden == "golden.jsonl"
    assert config.runtime == {
        "models": {"churn": {"pool": {"device": "cpu", "replicas": 2}}},
        "endpoints": {"/infer": {"share": {"detect": 0.4}}},
    }


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        (MINIMAL + "[bundel]\n", "bundel", "bundle"),
        (MINIMAL.replace("format", "fromat"), "bundle.models.tiny.fromat", "format"),
        (MINIMAL + "[[bundle.datasets]]\nurl = 'x'\n", "bundle.datasets[0].url", "uri"),
        ('gold = "x"\n' + MINIMAL, "gold", None),
    ],
)
def test_an_unknown_key_is_an_error_that_names_its_path_and_the_nearest_key(
    text: str, key: str, meant: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FOLDER)

    assert f"unknown key `{key}`" in caught.value.message
    assert caught.value.hint == (f"did you mean `{meant}`?" if meant else None)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"xgboost"', '"pickle"', "at `bundle.models.tiny.format`"),
        ('"xgboost"', "3", "at `bundle.models.tiny.format`"),
        ("tiny]", "Tiny]", "models"),
        ("tiny.service:service", "tiny.service", "`$.entry`"),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_path(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match="is not valid") as caught:
        parse_config(MINIMAL.replace(old, new), FOLDER)

    assert said in caught.value.message


@pytest.mark.parametrize("path", ["../tiny.ubj", "/model/tiny.ubj", "a/../../b", "C:/tiny.ubj", "model\\\\tiny.ubj"])
def test_a_path_that_leaves_the_folder_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="leaves the service folder") as caught:
        parse_config(MINIMAL.replace("model/tiny.ubj", path), FOLDER)

    assert "`bundle.models.tiny.file`" in caught.value.message


def test_a_service_without_models_is_refused() -> None:
    with pytest.raises(ConfigError, match="models"):
        parse_config('entry = "a.b:c"\n[bundle.models]\n', FOLDER)


@pytest.mark.parametrize("key", ["name", "version"])
def test_a_name_or_version_that_no_registry_takes_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"at `\\$.bundle.{key}`"):
        parse_config(MINIMAL + f'[bundle]\n{key} = "no good"\n', FOLDER)


def test_text_that_is_not_toml_is_an_error_with_its_line() -> None:
    with pytest.raises(ConfigError, match="line 1"):
        parse_config("entry =\n", FOLDER)


def test_a_folder_without_a_config_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no slipway\.toml") as caught:
        load_config(tmp_path)

    assert "slipway new" in (caught.value.hint or "")


def test_a_config_that_is_not_text_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(b"\xff\xfe")

    with pytest.raises(FileError, match="cannot be read"):
        load_config(tmp_path)
