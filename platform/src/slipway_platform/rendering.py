"""A program of `platform/` without Pulumi's engine: the Kubernetes objects that it would make, in order.

    python -m slipway_platform.rendering services lab | kubectl apply --server-side --field-manager slipway \
        --validate=strict --filename -

The program runs as it is, under Pulumi's own mocks; nothing is sent anywhere. It decides nothing and changes no
object; what mocks do to values (whole numbers become floats, secrets are wrapped) is undone. The invariants: objects
come in the order in which the program made them, which is the order of what they depend on; what is no object of
Kubernetes (charts, cloud resources, providers) is listed, never dropped in silence.
"""

import argparse
import asyncio
import json
import re
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from msgspec import Struct

from slipway_bundle import SlipwayError, UsageError

__all__ = ["Rendered", "RenderedObject", "RenderingError", "main", "render"]

References = Mapping[str, Mapping[str, object]]
"""Full name of a stack -> its outputs."""

WRAPPED: Final = "4dabf18193072939515e22adb298388d"
"""The key that Pulumi wraps a secret with on the wire (`sdk/python/lib/pulumi/runtime/rpc.py`)."""
STACK_NAME: Final = re.compile(r"[^/\s]+/(slipway-[a-z]+)/([^/\s]+)\Z")
SEALED: Final = "(sealed)"
"""In place of a secret of the stack's file: nobody can open it without the passphrase."""
FIRST: Final = ("apiVersion", "kind", "metadata", "name")
NOT_OURS: Final = ("kubernetes:helm", "kubernetes:kustomize", "kubernetes:yaml")


class RenderingError(UsageError):
    """There is no such project or stack, or its program failed."""

    code = "platform_rendering_failed"


class RenderedObject(Struct, frozen=True, kw_only=True):
    """One object of Kubernetes."""

    body: dict[str, Any]
    """As JSON, ready for the API server."""
    others: tuple[str, ...]
    """Paths that Pulumi leaves alone after the object was made (`ignore_changes`)."""


class Rendered(Struct, frozen=True, kw_only=True):
    """What a program makes."""

    objects: tuple[RenderedObject, ...]
    left_out: tuple[str, ...]
    """`TYPE NAME` of every resource that is no object of Kubernetes, components and the stack itself aside."""
    outputs: dict[str, Any]
    """What the program exports; a secret is `(sealed)` or its value."""

    @property
    def bodies(self) -> tuple[dict[str, Any], ...]:
        """The objects alone."""
        return tuple(one.body for one in self.objects)


def render(project: str, stack: str, *, platform: Path | None = None, references: References | None = None) -> Rendered:
    """Runs a project's program under mocks.

    Args:
        project: Folder in `platform/`: `services`.
        stack: `lab`: its file is `Pulumi.lab.yaml`.
        platform: The folder; None: that of this repository.
        references: Outputs of other stacks. A stack that is not in it and whose name stands in the stack's file is
            rendered from this repository, where its program is too.

    Raises:
        RenderingError: No such project or stack.
        SlipwayError: Whatever the program refuses.
    """
    folder = (platform or Path(__file__).parents[2]) / project
    name, config, secrets = _stack(folder, stack)
    known: dict[str, Mapping[str, object]] = dict(references or {})
    for full in _named(config):
        found = STACK_NAME.match(full)
        if full not in known and found is not None and found[1] != name:
            known[full] = render(found[1].removeprefix("slipway-"), found[2], platform=platform).outputs
    program = _Program(folder / "__main__.py", name, stack, config, secrets, known)
    thread = threading.Thread(target=program.run, name=f"render-{project}-{stack}")
    thread.start()  # an event loop and settings of its own: a caller's loop may run already
    thread.join()
    if program.failure is not None:
        raise program.failure
    return program.rendered()


class _Program:
    """One run of one program."""

    def __init__(
        self,
        path: Path,
        project: str,
        stack: str,
        config: Mapping[str, str],
        secrets: Sequence[str],
        references: References,
    ) -> None:
        self.failure: BaseException | None = None
        self._path, self._project, self._stack = path, project, stack
        self._config, self._secrets, self._references = config, secrets, references
        self._seen: list[tuple[str, str, dict[str, Any]]] = []
        self._others: dict[tuple[str, str], tuple[str, ...]] = {}
        self._outputs: dict[str, Any] = {}

    def run(self) -> None:
        """Run it to its end; `failure` says what went wrong."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self.failure = _cause(error)

    def rendered(self) -> Rendered:
        """What was made."""
        objects, left_out = [], []
        for kind, name, inputs in self._seen:
            if kind.startswith("kubernetes:") and not kind.startswith(NOT_OURS):
                others = self._others.get((kind, name), ())
                objects.append(RenderedObject(body=_plain(inputs), others=others))
            elif kind != "pulumi:pulumi:StackReference":
                left_out.append(f"{kind} {name}")
        return Rendered(objects=tuple(objects), left_out=tuple(left_out), outputs=_plain(self._outputs))

    def _run(self) -> None:
        import pulumi
        from pulumi.runtime import rpc, set_all_config
        from pulumi.runtime.stack import run_in_stack

        mocks = pulumi.runtime.mocks

        seen, others, outputs, references = self._seen, self._others, self._outputs, self._references

        class Recorder(mocks.Mocks):
            def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
                if args.typ == "pulumi:pulumi:StackReference":
                    seen.append((args.typ, args.name, {}))
                    return args.name, {"name": args.name, "outputs": _reference(references, args.name)}
                if args.custom is not False:
                    seen.append((args.typ, args.name, args.inputs))
                return f"{args.name}_id", dict(args.inputs)

            def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
                return dict(args.args), None

        class Monitor(mocks.MockMonitor):
            def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
                others[request.type, request.name] = tuple(request.ignoreChanges)
                return super().RegisterResource(request)  # type: ignore[no-untyped-call]  # Pulumi has no types here

            def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
                if "::pulumi:pulumi:Stack::" in request.urn:
                    outputs.update(rpc.deserialize_properties(request.outputs))
                return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]  # nor here

        loops = _Loops()
        loop = loops.make()
        # Pulumi's monitor wants an event loop in each thread that it is asked from, and closes none. With one thread
        # resources are registered in the order in which the program asked for them.
        loop.set_default_executor(ThreadPoolExecutor(max_workers=1, initializer=loops.make))
        try:
            recorder = Recorder()
            monitor = Monitor(recorder)
            pulumi.runtime.settings.set_root_resource(None)  # type: ignore[arg-type]  # of the run before
            pulumi.runtime.set_mocks(recorder, self._project, self._stack, preview=False, monitor=monitor)
            pulumi.runtime.settings.set_root_resource(None)  # type: ignore[arg-type]  # the program's own follows
            set_all_config(dict(self._config), list(self._secrets))
            loop.run_until_complete(run_in_stack(self._program))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loops.close()

    def _program(self) -> None:
        runpy.run_path(str(self._path), run_name="__main__")


class _Loops:
    """The event loops of a run: one a thread, all closed at its end."""

    def __init__(self) -> None:
        self._made: list[asyncio.AbstractEventLoop] = []

    def make(self) -> asyncio.AbstractEventLoop:
        """One for this thread."""
        loop = asyncio.new_event_loop()
        self._made.append(loop)
        asyncio.set_event_loop(loop)
        return loop

    def close(self) -> None:
        """All of them; their threads have ended, or this is theirs."""
        asyncio.set_event_loop(None)
        for loop in self._made:
            loop.close()


def main(arguments: Sequence[str]) -> int:
    """`python -m slipway_platform.rendering PROJECT STACK`: YAML on stdout; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m slipway_platform.rendering", description=__doc__)
    parser.add_argument("project", help="folder in platform/: services")
    parser.add_argument("stack", help="lab, for Pulumi.lab.yaml")
    parser.add_argument("--references", type=Path, help="JSON: name of a stack -> its outputs, instead of its program")
    asked = parser.parse_args(arguments)
    try:
        references = msgspec.json.decode(asked.references.read_bytes()) if asked.references else None
        rendered = render(asked.project, asked.stack, references=references)
    except SlipwayError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    yaml.safe_dump_all(rendered.bodies, sys.stdout, sort_keys=False)
    for line in rendered.left_out:
        sys.stderr.write(f"not rendered: {line}\n")
    return 0


def _stack(folder: Path, stack: str) -> tuple[str, dict[str, str], list[str]]:
    """Name of the project, its configuration as text, and which keys hold secrets."""
    file = folder / f"Pulumi.{stack}.yaml"
    try:
        name = yaml.safe_load((folder / "Pulumi.yaml").read_text(encoding="utf-8"))["name"]
        raw = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        stacks = ", ".join(sorted(path.stem.removeprefix("Pulumi.") for path in folder.glob("Pulumi.*.yaml")))
        raise RenderingError(
            f"there is no stack {stack!r} in {str(folder)!r}: {error.strerror}",
            hint=f"there are {stacks}" if stacks else "projects are the folders of platform/ with a Pulumi.yaml",
        ) from error
    values = dict(raw.get("config") or {})
    secrets = [key for key, value in values.items() if _is_sealed(value)]
    opened = {key: _opened(value) for key, value in values.items()}
    return name, {key: value if isinstance(value, str) else json.dumps(value) for key, value in opened.items()}, secrets


def _is_sealed(value: object) -> bool:
    if isinstance(value, Mapping):
        return "secure" in value or any(_is_sealed(item) for item in value.values())
    return isinstance(value, list) and any(_is_sealed(item) for item in value)


def _opened(value: object) -> object:
    if isinstance(value, Mapping):
        return SEALED if set(value) == {"secure"} else {key: _opened(item) for key, item in value.items()}
    return [_opened(item) for item in value] if isinstance(value, list) else value


def _named(config: Mapping[str, str]) -> list[str]:
    return [value for value in config.values() if STACK_NAME.match(value)]


def _reference(references: References, name: str) -> dict[str, object]:
    if name not in references:
        raise RenderingError(
            f"the program reads the stack {name!r}, whose outputs are not known",
            hint="give them with --references",
            stack=name,
        )
    return dict(references[name])


def _cause(error: BaseException) -> BaseException:
    """Pulumi wraps what a program raises; ours is somewhere in the chain."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, SlipwayError):
            return link
        link = link.__cause__ or link.__context__
    return error


def _plain(value: Any) -> Any:
    """As the API server reads it: whole numbers whole, secrets open; keys in one order, as the wire has none."""
    if isinstance(value, Mapping):
        if WRAPPED in value:
            return _plain(value["value"])
        return {key: _plain(value[key]) for key in sorted(value, key=lambda name: (name not in FIRST, name))}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
