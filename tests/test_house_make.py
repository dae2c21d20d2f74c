"""What make gives to everything that it starts."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_processes_find_bytecode_again_where_none_may_lie_beside_the_sources(tmp_path: Path) -> None:
    """Images set PYTHONDONTWRITEBYTECODE; each process of the tests and of the demo would compile numpy again."""
    (tmp_path / "process.py").write_text("import taken\nprint(taken.__cached__)\n")
    (tmp_path / "taken.py").write_text("")
    (tmp_path / "own.mk").write_text(f"own:\n\t@{shlex.quote(sys.executable)} process.py\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAKE"))}
    command = ["make", "--no-print-directory", f"--file={ROOT / 'Makefile'}", "--file=own.mk", "own"]

    def cached(**more: str) -> Path:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment | more, stdout=subprocess.PIPE, text=True, check=True
        )
        return Path(done.stdout.strip())

    apart = cached(PYTHONDONTWRITEBYTECODE="1")
    assert apart.is_relative_to(tmp_path / ".tools" / "bytecode")
    assert apart.is_file()
    assert not (tmp_path / "__pycache__").exists()
    assert cached(PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX="/nowhere").is_relative_to("/nowhere")
    assert cached().is_relative_to(tmp_path / "__pycache__")
