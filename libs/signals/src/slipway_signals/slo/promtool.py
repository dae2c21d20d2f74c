"""Promtool as a judge of what was compiled. It decides nothing and writes only into a folder that is deleted."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from slipway_signals.slo.errors import PromtoolError, RulesRefusedError

__all__ = ["check_rules"]

TIMEOUT_S: Final = 60


def check_rules(files: Mapping[str, str]) -> None:
    """Let promtool read rules; `files` are texts by name.

    Raises:
        RulesRefusedError: Promtool refuses them; the message has its words.
        PromtoolError: There is no promtool, or it does not answer within a minute.
    """
    program = shutil.which("promtool")
    if program is None:
        raise PromtoolError("promtool is not installed", hint="`sh scripts/system-packages.sh`, or install prometheus")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in files.items():
            path = Path(folder) / Path(name).name
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        try:
            command = [program, "check", "rules", "--lint=duplicate-rules", "--lint-fatal", *paths]
            run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PromtoolError(f"promtool did not answer: {error}") from error
    if run.returncode:
        said = " ".join(line.strip() for line in run.stderr.splitlines() if line.strip()).replace(f"{folder}/", "")
        raise RulesRefusedError(f"promtool refuses the rules: {said}")
