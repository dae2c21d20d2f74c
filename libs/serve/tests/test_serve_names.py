"""The names that a service author imports: those of the reference page, all of them and no others."""

import re
import subprocess
import sys
from pathlib import Path

import slipway_serve

PAGE = Path(__file__).parents[3] / "docs" / "service-api.md"


def test_the_public_names_are_those_of_the_reference() -> None:
    table = PAGE.read_text().partition("\n## Public names\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]

    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(slipway_serve.__all__)


def test_every_example_of_the_reference_imports_what_is_there() -> None:
    pages = [PAGE, PAGE.with_name("capture.md"), PAGE.with_name("tutorial-first-service.md")]
    text = "\n".join(page.read_text() for page in pages)
    lines = set(re.findall(r"^from slipway_serve import .*$", text, re.MULTILINE))

    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)

    assert any("Redact" in line for line in lines)
    assert done.returncode == 0, done.stderr
