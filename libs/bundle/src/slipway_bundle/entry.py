"""Importing a service: `package.module:object` becomes an object with the shape of a service.

It runs user code, in the process that calls it: servers and child processes do, the builder never does. The invariant:
what it returns comes from the folder it was given, not from another copy of the same package.
"""

import importlib
import sys
from pathlib import Path

from slipway_bundle.description import ServiceLike
from slipway_bundle.errors import DescribeError

__all__ = ["load_entry"]


def load_entry(entry: str, code: Path) -> ServiceLike:
    """Imports `entry` with `code` first on `sys.path`, and leaves it there.

    Raises:
        DescribeError: The import fails, the module is already there from another folder, or the object is no service.
    """
    module_name, _, attribute = entry.partition(":")
    root = str(code.resolve())
    if root not in sys.path:
        sys.path.insert(0, root)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # User code may raise anything, and all of it means the same to us.
        raise DescribeError(
            f"service {entry!r} cannot be imported from {root!r}: {type(error).__name__}: {error}",
            hint=_import_hint(error, module_name),
            entry=entry,
        ) from error
    origin = getattr(module, "__file__", None)
    if origin is not None and not Path(origin).resolve().is_relative_to(root):
        raise DescribeError(
            f"service {entry!r} was imported from another place: got {origin!r}, expected a file under {root!r}",
            hint="one process serves one copy of a package; rename one of the two",
            entry=entry,
        )
    try:
        service = getattr(module, attribute)
    except AttributeError as error:
        raise DescribeError(
            f"module {module_name!r} has no object {attribute!r}, expected the service that `entry` names",
            hint=f'in slipway.toml: entry = "{module_name}:NAME"',
            entry=entry,
        ) from error
    if not _is_service(service):
        raise DescribeError(
            f"{entry!r} is not a service: got an object of type {type(service).__name__!r}, expected a Service",
            hint='a service module ends in something like `service = Service("churn")`',
            entry=entry,
        )
    found: ServiceLike = service
    return found


def _is_service(candidate: object) -> bool:
    return isinstance(getattr(candidate, "name", None), str) and all(
        hasattr(candidate, name) for name in ("models", "describe")
    )


def _import_hint(error: Exception, module_name: str) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            return "`entry` and `[bundle] code` of slipway.toml say where the module is"
        return f"add {error.name!r} to the dependencies in the service's pyproject.toml, or install it"
    return None
