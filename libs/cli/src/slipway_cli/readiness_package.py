"""Before production, the package: it can be made again, verified, and says where it comes from.

It builds in a folder of its own, twice: here, and in another process with another hash seed, time zone, umask and home.
The invariant: nothing of the user's own store is read or written.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from slipway_bundle.build import Built, build
from slipway_bundle.config import ServiceConfig
from slipway_bundle.environment import load_environment
from slipway_bundle.errors import SlipwayError
from slipway_bundle.golden import decode_golden
from slipway_bundle.lineage import load_lineage
from slipway_bundle.store import Store
from slipway_bundle.verify import verify
from slipway_cli.readiness import Item, Say, attempt, missing, some
from slipway_signals.drift import judge_reference

__all__ = ["check_package"]

BUILD_TIMEOUT_S: Final = 600.0
ELSEWHERE: Final = {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Chatham", "LC_ALL": "C", "COLUMNS": "40"}
"""What must not change a bundle."""


def check_package(config: ServiceConfig, home: Path, say: Say) -> Iterator[Item]:
    """The lock, two builds, a verification, golden examples, reference profiles, lineage.

    Args:
        config: Of the service.
        home: Where to build: `home/store` then holds the bundle.
        say: Told each part before it begins.
    """
    rebuild = f"slipway bundle build {config.folder}"
    yield attempt("lock", lambda: _lock(config.folder), "make lock")
    say("building it, and again in another process")
    try:
        built = build(config.folder, Store.open(home / "store"), judge_reference=judge_reference)
    except SlipwayError as error:
        yield missing("artefact", f"it cannot be built: {error.message.splitlines()[0]}", error.hint or rebuild)
    else:
        yield _same_again(config.folder, built, home)
        say("verifying it")
        yield _verified(built.ref, home)
    yield attempt("golden examples", lambda: _golden(config), "write a line for each model into golden.jsonl")
    yield _references(config)
    yield attempt("lineage", lambda: _lineage(config), 'write lineage = "model/lineage.json" into [bundle]')


def _lock(folder: Path) -> Item:
    packages = load_environment(folder).packages
    return Item("lock", "ok", f"{len(packages)} packages, each with its version and hashes")


def _same_again(folder: Path, built: Built, home: Path) -> Item:
    command = [sys.executable, "-P", "-m", "slipway_cli", "--json", "bundle", "build", str(folder.resolve())]
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | ELSEWHERE | {"SLIPWAY_HOME": str(elsewhere), "HOME": str(elsewhere)}
    done = subprocess.run(
        command,
        cwd=elsewhere,
        env=environment,
        umask=0o077,
        capture_output=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    explain = f"slipway bundle build {folder} && slipway bundle diff {built.name}@OLD {built.name}@NEW"
    try:
        again = msgspec.json.decode(done.stdout, type=Built)
    except msgspec.DecodeError:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        return missing("artefact", f"built once, but not again: {said[-1] if said else 'no word'}", explain)
    if again.digest != built.digest:
        return missing("artefact", f"two builds differ: {built.digest} and {again.digest}", explain)
    return Item("artefact", "ok", f"two builds, in two environments, are the same: {built.digest}")


def _verified(ref: str, home: Path) -> Item:
    report = verify(Store.open(home / "store"), ref)
    failed = [step for step in report.steps if step.status == "failed"]
    warned = [step for step in report.steps if step.status == "warning"]
    if failed:
        step = failed[0]
        return missing(
            "verified", f"{step.name}: {step.detail.splitlines()[0]}", step.hint or f"slipway bundle verify {ref}"
        )
    if warned:
        found = f"the bundle is what it says; {warned[0].detail.splitlines()[0]}"
        return Item("verified", "advice", found.rstrip(":"), "sh scripts/setup.sh dev")
    return Item("verified", "ok", f"{len(report.steps)} steps: every byte hashed, golden examples replayed")


def _golden(config: ServiceConfig) -> Item:
    name = config.bundle.golden
    examples = Counter(example.model for example in decode_golden(_read(config.folder / name), where=name))
    without = sorted(config.bundle.models.keys() - examples.keys())
    if without:
        return missing("golden examples", f"none for {some(without)}", f"write one line a model into {name}")
    counts = ", ".join(f"{model} {count}" for model, count in sorted(examples.items()))
    return Item("golden examples", "ok", counts)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _references(config: ServiceConfig) -> Item:
    """At least one model is watched for drift; which are not is said."""
    named = {name: model.reference for name, model in sorted(config.bundle.models.items())}
    watched = [name for name, file in named.items() if file is not None and (config.folder / file).is_file()]
    unwatched = [name for name in named if name not in watched]
    fix = 'write it with slipway_signals.drift.build_profile, and reference = "…" into [bundle.models.NAME]'
    if not watched:
        return missing("reference profile", f"none of {some(unwatched)}: drift would not be seen", fix)
    beside = f"; not watched: {some(unwatched)}" if unwatched else ""
    return Item("reference profile", "ok", f"of {some(watched)}{beside}")


def _lineage(config: ServiceConfig) -> Item:
    lineage = load_lineage(config.folder, config.bundle)
    fix = 'let train.py write it, and lineage = "model/lineage.json" into [bundle]'
    if lineage is None or not (lineage.datasets or lineage.trained_from):
        return missing("lineage", "nothing says what the models were trained on", fix)
    return Item("lineage", "ok", some([data.uri for data in (*lineage.datasets, *lineage.trained_from)]))
