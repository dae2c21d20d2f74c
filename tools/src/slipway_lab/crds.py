"""The definitions of the add-ons' objects (CRDs), read from the add-ons' own Go modules.

It applies nothing, and no CRD is committed: a file comes from the module whose version and sum the repository pins, so
what the lab and the schemas know is what that version of the add-on knows. The invariant: `go` refuses a module whose
content is not that of `go.sum`.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from slipway_lab.build import BuildError
from slipway_lab.errors import LabError
from slipway_lab.workshop import Workshop, find_workshop

__all__ = ["SOURCES", "Source", "crd_files", "module_folder"]

FETCH_LIMIT_S: Final = 600.0


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the CRDs of one add-on are."""

    folder: str
    """of the Go module under `tools/` that pins the add-on's."""
    module: str
    """the add-on's Go module."""
    files: str
    """a glob inside it; files that hold no CRD are left out."""


def _read_only(module: str, files: str) -> Source:
    return Source(folder="crds", module=module, files=files)


SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        "rollouts": Source(
            folder="rollouts", module="github.com/argoproj/argo-rollouts", files="manifests/crds/*-crd.yaml"
        ),
        "traefik": Source(
            folder="traefik",
            module="github.com/traefik/traefik/v3",
            files="docs/content/reference/dynamic-configuration/traefik.io_*.yaml",
        ),
        "gateway-api": _read_only("sigs.k8s.io/gateway-api", "config/crd/standard/*.yaml"),
        "prometheus-operator": _read_only(
            "github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/*.yaml"
        ),
        "keda": _read_only("github.com/kedacore/keda/v2", "config/crd/bases/*.yaml"),
        "kueue": _read_only("sigs.k8s.io/kueue", "config/components/crd/bases/*.yaml"),
        "external-secrets": _read_only("github.com/external-secrets/external-secrets", "config/crds/bases/*.yaml"),
    }
)
"""Every add-on whose objects the platform makes."""


def crd_files(names: Iterable[str] = SOURCES, *, workshop: Workshop | None = None) -> tuple[Path, ...]:
    """The CRD files of the add-ons `names`: YAML, one document or several each; in the module cache, read-only.

    Args:
        names: of `SOURCES`.
        workshop: where Go and the modules are; None: `find_workshop()`.

    Raises:
        BuildError: a module cannot be fetched, is not what `go.sum` says, or has no CRD where it had them.
        CannotRunError: there is no Go.
        LabError: there is no such source.
    """
    workshop = workshop or find_workshop()
    return tuple(path for name in names for path in _files(_source(name), workshop))


def module_folder(folder: str, module: str, workshop: Workshop) -> Path:
    """The unpacked Go module `module`, as `tools/<folder>` pins it; fetched if it is not there.

    Args:
        folder: under `tools/`.
        module: a path that its go.mod requires, or PATH@VERSION of which its go.sum has a line.

    Raises:
        BuildError: it cannot be fetched, or is not what `go.sum` says.
    """
    command = [str(workshop.go), "mod", "download", "-json", module]
    try:
        done = subprocess.run(
            command,
            cwd=workshop.tools / folder,
            env=workshop.environment(),
            capture_output=True,
            timeout=FETCH_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{module} was not fetched in {FETCH_LIMIT_S:.0f} s", hint="look at the network") from error
    told = json.loads(done.stdout or b"{}")
    if done.returncode != 0 or "Dir" not in told:
        reason = told.get("Error") or done.stderr.decode(errors="replace").strip() or "go said nothing"
        raise BuildError(
            f"{module} cannot be read: {reason}",
            hint=f"the same by hand: cd tools/{folder} && go mod download {module}",
        )
    return Path(told["Dir"])


def _files(source: Source, workshop: Workshop) -> list[Path]:
    module = module_folder(source.folder, source.module, workshop)
    found = [
        path for path in sorted(module.glob(source.files)) if b"\nkind: CustomResourceDefinition" in path.read_bytes()
    ]
    if not found:
        raise BuildError(f"no CRD in {module.name}: expected {source.files}", hint="the module moved them: see crds.py")
    return found


def _source(name: str) -> Source:
    source = SOURCES.get(name)
    if source is None:
        raise LabError(f"no CRDs of {name!r}, expected one of {', '.join(SOURCES)}")
    return source
