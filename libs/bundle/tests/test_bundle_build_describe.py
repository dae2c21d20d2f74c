"""Describing a service in a child process: whatever the service does, the builder gets data or one clear error."""

import sys
from pathlib import Path

import pytest
from bundle_fakes import edit

from slipway_bundle.build import build
from slipway_bundle.describe import describe_service
from slipway_bundle.description import ServiceDescription
from slipway_bundle.errors import DescribeError
from slipway_bundle.store import Store

ENTRY = "tiny_service.service:service"


def describe(folder: Path, *, entry: str = ENTRY, timeout_s: float = 60) -> ServiceDescription:
    return describe_service(entry, folder / "src", {"tiny": "xgboost"}, timeout_s=timeout_s)


def rewrite(folder: Path, text: str, *, keep: bool = True) -> None:
    module = folder / "src" / "tiny_service" / "service.py"
    module.write_text((module.read_text() if keep else "") + text)


def test_a_service_is_described_with_the_tensors_of_its_models(folder: Path) -> None:
    description = describe(folder)

    assert description.name == "tiny"
    assert [(tensor.name, tensor.datatype) for tensor in description.models["tiny"].inputs] == [
        ("x", "FP32"), ("y", "FP32")
    ]  # fmt: skip
    assert description.endpoints[0].path == "/predict"


def test_the_builder_never_imports_the_service(folder: Path, store: Store) -> None:
    build(folder, store, environ={})

    assert not [name for name in sys.modules if name.startswith("tiny_service")]
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize(
    "text",
    [
        "print('hello')\n",
        "import os\nos.write(1, b'{garbage')\nos.system('echo more')\n",
        "import atexit\natexit.register(print, 'late')\n",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n",
    ],
)
def test_what_a_service_prints_or_leaves_running_does_not_disturb_its_description(folder: Path, text: str) -> None:
    rewrite(folder, text)

    assert describe(folder, timeout_s=30).name == "tiny"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("raise RuntimeError('the moon')\n", "RuntimeError: the moon"),
        ("def broken(:\n", "SyntaxError"),
        ("import os\nos.kill(os.getpid(), 11)\n", "died from SIGSEGV"),
        ("import os\nos._exit(0)\n", "did not describe itself"),
        ("raise SystemExit(0)\n", "did not describe itself"),
        ("service = 3\n", "is not a service: got an object of type 'int'"),
        ("del service\n", "has no object 'service'"),
        ("Service.describe = lambda self: {}\n", "gave 'dict'"),
        ("Service.models = {}\n", r"name different models: got \['tiny'\], expected \[\]"),
        ("class Bad(Struct):\n    x: dict\nservice.models['tiny'].row = Bad\n", "Bad"),
    ],
)  # fmt: skip
def test_a_service_that_cannot_be_described_is_one_error_with_its_reason(folder: Path, text: str, said: str) -> None:
    rewrite(folder, text)

    with pytest.raises(DescribeError, match=said) as caught:
        describe(folder)

    assert caught.value.exit_status == 2


def test_the_error_ends_with_the_last_lines_of_the_child(folder: Path) -> None:
    rewrite(folder, "import sys\nprint('warming up', file=sys.stderr)\nraise RuntimeError('the moon')\n")

    with pytest.raises(DescribeError) as caught:
        describe(folder)

    assert "warming up" in caught.value.message
    assert 'service.py", line' in caught.value.message


def test_a_service_that_hangs_is_ended_with_its_children(folder: Path) -> None:
    rewrite(folder, "import subprocess\nsubprocess.run(['sleep', '60'])\n")

    with pytest.raises(DescribeError, match="did not end within 2 s"):
        describe(folder, timeout_s=2)


@pytest.mark.parametrize(
    ("entry", "hint"),
    [("tiny_service.srevice:service", "`entry` and"), ("no_such.module:service", "`entry` and")],
)
def test_an_entry_that_names_no_module_is_an_error_that_says_where_it_is_written(
    folder: Path, entry: str, hint: str
) -> None:
    with pytest.raises(DescribeError, match="cannot be imported") as caught:
        describe(folder, entry=entry)

    assert hint in (caught.value.hint or "")


def test_a_missing_dependency_is_named(folder: Path) -> None:
    rewrite(folder, "import no_such_module\n")

    with pytest.raises(DescribeError) as caught:
        describe(folder)

    assert "add 'no_such_module' to the dependencies" in (caught.value.hint or "")


def test_a_description_does_not_depend_on_the_hash_seed_of_the_builder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder / "src/tiny_service/service.py", 'path="/predict"', 'path="/" + "-".join({"a", "b", "c", "d", "e"})')
    paths = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)

        paths.add(describe(folder).endpoints[0].path)

    assert len(paths) == 1
