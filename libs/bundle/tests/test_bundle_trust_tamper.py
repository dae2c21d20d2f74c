"""A short form of `benchmarks/tamper.py`: every tampered variant of a signed bundle is refused."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_no_tampered_variant_of_a_signed_bundle_is_allowed(folder: Path) -> None:
    """Five rounds of all kinds; the thousand are a benchmark."""
    command = [sys.executable, str(ROOT / "benchmarks" / "tamper.py"), "--variants", "85", "--service", str(folder)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "85 variants: 85 refused, 0 allowed" in done.stdout
