"""The same bundle, base and lock give the same images: one test for each thing that two builders differ in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from image_fakes import Workshop
from store_fakes import in_child

NOBODY = 65534

ADD = """\
import os, sys
from pathlib import Path
from slipway_bundle.image.adding import add_images
from slipway_bundle.image.settings import ImageOptions
from slipway_bundle.store import Store
root, base = Path(sys.argv[1]), sys.argv[2]
os.umask(int(sys.argv[3], 8))
options = ImageOptions(wheels=root / "wheels", base=base)
store = Store.open(root / "store")
print(add_images(store, store.refs()[0].text, options, environ=os.environ).digest)
"""


def add(workshop: Workshop, *, umask: int, **environ: str) -> str:
    """The digest that another process comes to, in a store and a cache of its own."""
    given = {**workshop.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ}
    command = [sys.executable, "-c", ADD, str(workshop.root), workshop.base, f"{umask:o}"]
    done = subprocess.run(
        command, env=given, check=True, capture_output=True, text=True, timeout=100, cwd=workshop.root
    )
    return done.stdout.strip()


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory, bench: Workshop) -> str:
    """The digest of an ordinary build in this process."""
    workshop = bench.copy(tmp_path_factory.mktemp("expected") / "workshop")
    return workshop.add(platforms=None).digest


@pytest.mark.parametrize(
    "environ",
    [
        {"TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "4711", "HOME": "/nowhere"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "1", "USER": "somebody", "COLUMNS": "20"},
    ],
    ids=["zone", "ascii"],
)
def test_images_do_not_depend_on_the_environment(workshop: Workshop, expected: str, environ: dict[str, str]) -> None:
    assert add(workshop, umask=0o077, **environ) == expected


def test_images_do_not_depend_on_the_folder_or_on_an_empty_cache(
    bench: Workshop, tmp_path: Path, expected: str
) -> None:
    """Other paths, and wheels that pip has to find again."""
    workshop = bench.copy(tmp_path / "a-longer-path" / "below")
    for path in (workshop.root / "wheels").rglob("*"):
        if path.is_file():
            path.unlink()

    assert add(workshop, umask=0o000) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_images_do_not_depend_on_the_user(workshop: Workshop, expected: str) -> None:
    """In a fork: the interpreter itself may be where nobody else may read; `expected` has imported what is needed."""
    for folder in list(workshop.root.parents)[:4]:  # pytest's own folders are root's alone
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in (workshop.root, *workshop.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)

    def work() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        (workshop.root / "digest").write_text(workshop.add(platforms=None).digest)

    assert in_child(work) == 0
    assert (workshop.root / "digest").read_text() == expected
