"""Which files become code: defaults, globs, and what is refused because it is secret, outside or unreadable."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipway_bundle.config import BundleConfig, ModelConfig
from slipway_bundle.errors import ConfigError, FileError, SecretRefusedError, SourceError
from slipway_bundle.sources import find_sources

KEY = "-----BEGIN {}PRIVATE KEY-----\nMIIB\n"


def bundle(**fields: object) -> BundleConfig:
    given: dict[str, object] = {"models": {"tiny": ModelConfig(file="model/tiny.ubj", format="xgboost")}} | fields
    return BundleConfig(**given)  # type: ignore[arg-type]  # a test may give any field


def paths(folder: Path, **fields: object) -> list[str]:
    return [file.path for file in find_sources(folder, bundle(**fields))]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "service"
    (folder / "src" / "pkg").mkdir(parents=True)
    (folder / "src" / "pkg" / "__init__.py").write_text("")
    return folder


def put(folder: Path, path: str, text: str = "x = 1\n") -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def test_the_code_is_the_code_folder_sorted_by_bytes(sources: Path) -> None:
    for name in ("b.py", "a.py", "B.py", "ä.py", "a/z.py"):
        put(sources, f"src/pkg/{name}")
    put(sources, "train.py")

    assert paths(sources) == [
        "src/pkg/B.py", "src/pkg/__init__.py", "src/pkg/a.py", "src/pkg/a/z.py", "src/pkg/b.py", "src/pkg/ä.py"
    ]  # fmt: skip


def test_what_git_would_ignore_is_left_out(sources: Path) -> None:
    for name in (
        ".git/config",
        ".venv/x.py",
        "__pycache__/a.pyc",
        "a.pyc",
        ".DS_Store",
        ".env",
        ".env.local",
        "x.egg-info/a",
    ):
        put(sources, f"src/pkg/{name}")

    assert paths(sources) == ["src/pkg/__init__.py"]


def test_globs_add_and_take_away(sources: Path) -> None:
    put(sources, "data/words.txt")
    put(sources, "src/pkg/big/notes.txt")
    put(sources, "src/pkg/big/more.txt")

    found = paths(sources, include=("data/*.txt",), exclude=("src/pkg/big",))

    assert found == ["data/words.txt", "src/pkg/__init__.py"]


def test_an_include_that_fits_nothing_is_refused(sources: Path) -> None:
    with pytest.raises(ConfigError, match="fits no file"):
        paths(sources, include=("data/*.txt",))


def test_a_missing_code_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the code folder 'src' is not a folder"):
        paths(tmp_path)


@pytest.mark.parametrize("name", [".env", "secrets/id_ed25519", ".netrc", "cert.p12"])
def test_a_file_for_secrets_that_is_included_is_refused(sources: Path, name: str) -> None:
    put(sources, name)

    with pytest.raises(SecretRefusedError, match="file for secrets") as caught:
        paths(sources, include=(name,))

    assert caught.value.code == "secret_refused"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (KEY.format(""), "a private key"),
        (KEY.format("RSA "), "a private key"),
        (KEY.format("OPENSSH "), "a private key"),
        ("aws = 'AKIA" + "ABCDEFGHIJKLMNOP'", "an AWS access key"),
        ("token = 'ghp_" + "a1" * 18 + "'", "a GitHub token"),
        ("token = 'xoxb-" + "1" * 12 + "-" + "a" * 24 + "'", "a Slack token"),
    ],
)
def test_code_that_holds_a_secret_is_refused_with_its_line(sources: Path, text: str, what: str) -> None:
    put(sources, "src/pkg/settings.py", f"x = 1\n{text}\n")

    with pytest.raises(SecretRefusedError, match=f"{what}, in line 2"):
        paths(sources)


def test_a_harmless_example_of_settings_may_be_included(sources: Path) -> None:
    put(sources, ".env.example", "TOKEN=\n")

    assert ".env.example" in paths(sources, include=(".env.example",))


def test_a_link_inside_the_folder_is_packed_as_its_file(sources: Path) -> None:
    target = put(sources, "shared/words.txt")
    (sources / "src" / "pkg" / "words.txt").symlink_to(target)

    found = {file.path: file.source for file in find_sources(sources, bundle())}

    assert found["src/pkg/words.txt"] == target.resolve()


@pytest.mark.parametrize("target", ["../../../outside.txt", "/etc/passwd"])
def test_a_link_that_leaves_the_folder_is_refused(sources: Path, target: str) -> None:
    (sources.parent / "outside.txt").write_text("x")
    (sources / "src" / "pkg" / "words.txt").symlink_to(target)

    with pytest.raises(SourceError, match="leaves the service folder"):
        paths(sources)


@pytest.mark.parametrize("target", ["nowhere", "../pkg", "."])
def test_a_link_to_nothing_or_to_a_folder_is_refused(sources: Path, target: str) -> None:
    (sources / "src" / "pkg" / "words").symlink_to(target)

    with pytest.raises(SourceError, match="does not point to a file"):
        paths(sources)


def test_a_fifo_is_refused(sources: Path) -> None:
    os.mkfifo(sources / "src" / "pkg" / "pipe")

    with pytest.raises(SourceError, match="not a regular file"):
        paths(sources)


def test_a_name_that_is_not_utf8_is_refused(sources: Path) -> None:
    os.close(os.open(os.fsencode(sources / "src" / "pkg") + b"/caf\xe9.py", os.O_CREAT))

    with pytest.raises(SourceError, match=r"caf\\xe9.py' is not UTF-8"):
        paths(sources)


def test_a_code_file_of_the_size_of_a_model_is_refused(sources: Path) -> None:
    with (sources / "src" / "pkg" / "blob.bin").open("wb") as file:
        file.truncate((64 << 20) + 1)

    with pytest.raises(SourceError, match="too big") as caught:
        paths(sources)

    assert "[bundle.models]" in (caught.value.hint or "")


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root reads everything, so for a moment it is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["src/pkg/closed.py", "src/pkg/closed"])
def test_what_cannot_be_read_is_refused_by_name(what: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        folder.chmod(0o755)
        put(folder, "src/pkg/__init__.py")
        closed = put(folder, what) if what.endswith(".py") else put(folder, f"{what}/a.py").parent
        closed.chmod(0)

        with somebody_else(), pytest.raises(FileError, match=r"closed.*cannot be read") as caught:
            paths(folder)

        closed.chmod(0o700)
        assert caught.value.exit_status == 3
