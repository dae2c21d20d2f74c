"""Asks whether manifests are objects that every supported Kubernetes takes; without a cluster, by kubeconform.

It says nothing of what is no matter of schema: a cluster's admission does (`kubectl apply --dry-run=server`). The
invariant: a kind that has no schema is a finding and not skipped.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from slipway_lab.build import binary
from slipway_lab.errors import CommandError
from slipway_lab.schemas import VERSIONS, locations, schema_folder
from slipway_lab.workshop import Say, Workshop, find_workshop, say_nothing

__all__ = ["Finding", "Report", "conform"]

LIMIT_S: Final = 120.0
_PLACE: Final = re.compile(r"\s+- (?=at ')")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that Kubernetes would refuse."""

    kubernetes: tuple[str, ...]
    """the versions that would: `("v1.36.3",)`"""
    file: str
    kind: str
    name: str
    problem: str
    """where and what: `at '/spec/replica': …`"""

    def __str__(self) -> str:
        where = "" if self.kubernetes == VERSIONS else f" (Kubernetes {', '.join(self.kubernetes)})"
        return f"{self.file}: {self.kind} {self.name}: {self.problem}{where}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and what was found."""

    kubernetes: tuple[str, ...]
    objects: int
    """in the manifests; each was judged by every version."""
    findings: tuple[Finding, ...]


def conform(paths: Iterable[Path], *, workshop: Workshop | None = None, say: Say = say_nothing) -> Report:
    """Judge the manifests in `paths` by the schemas of every version in `VERSIONS`.

    Args:
        paths: YAML or JSON files, or folders of them.
        workshop: where kubeconform and the schemas are kept; both are made if they are missing.
        say: told what is being made.

    Raises:
        BuildError, CannotRunError: kubeconform or the schemas cannot be made.
        CommandError: kubeconform could not read what it was given.
    """
    workshop = workshop or find_workshop()
    program = binary("kubeconform", workshop=workshop, say=say)
    folder = schema_folder(workshop=workshop, say=say)
    command = [str(program), "-strict", "-summary", "-output", "json"]
    for location in locations(folder):
        command += ["-schema-location", location]
    files = [str(path) for path in paths]
    objects = 0
    found: dict[tuple[str, ...], list[str]] = {}
    for version in VERSIONS:
        answer = _ask([*command, "-kubernetes-version", version.removeprefix("v"), *files])
        objects = sum(answer.summary.values())
        for problem in _problems(answer):
            found.setdefault(problem, []).append(version)
    findings = (
        Finding(kubernetes=tuple(versions), file=file, kind=kind, name=name, problem=problem)
        for (file, kind, name, problem), versions in sorted(found.items())
    )
    return Report(kubernetes=VERSIONS, objects=objects, findings=tuple(findings))


class _Resource(msgspec.Struct, frozen=True):
    """Of kubeconform's answer: one that is not valid."""

    filename: str
    status: str
    kind: str = ""
    name: str = ""
    msg: str = ""


class _Answer(msgspec.Struct, frozen=True):
    summary: dict[str, int]
    resources: tuple[_Resource, ...] = ()


def _ask(command: list[str]) -> _Answer:
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
        return msgspec.json.decode(done.stdout, type=_Answer)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"kubeconform was not done in {LIMIT_S:.0f} s") from error
    except msgspec.DecodeError as error:
        told = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise CommandError(f"kubeconform ended with status {done.returncode}: {told}") from error


def _problems(answer: _Answer) -> Iterator[tuple[str, str, str, str]]:
    """File, kind, name and problem of what was found; kubeconform says all of an object's problems as one text."""
    for resource in answer.resources:
        _, *places = _PLACE.split(resource.msg)
        problems = [place for place in places if not place.endswith(": validation failed")] or [resource.msg]
        yield from ((resource.filename, resource.kind, resource.name, problem) for problem in problems)
