"""Runs a program, or a part of one, under Pulumi's own mocks, and says what it registered with which options.

`slipway_platform.rendering` gives what Kubernetes sees; here is also what Pulumi alone sees: providers, protection,
dependencies, secrets.
"""

import asyncio
import json
import runpy
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import Struct
from pulumi import runtime

from slipway_bundle import SlipwayError
from slipway_platform.policies.stacks import Resource

PLATFORM = Path(__file__).parents[1]
SECRET = "4dabf18193072939515e22adb298388d"
DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example.com/slipway-platform@{DIGEST}"

CLUSTER = "organization/slipway-cluster/test"
INFO = {"kind": "existing", "name": "test", "registry": "registry.example.com"}


class Made(Struct, frozen=True, kw_only=True):
    """One resource that was registered."""

    type: str
    name: str
    inputs: dict[str, Any]
    provider: str
    is_protected: bool
    depends_on: tuple[str, ...]
    """URNs."""
    aliases: tuple[str, ...]


class Run(Struct, frozen=True, kw_only=True):
    """What a program registered, and exported."""

    made: tuple[Made, ...]
    outputs: dict[str, Any]

    def of(self, *types: str) -> tuple[Made, ...]:
        """Those whose type ends with one of these words."""
        return tuple(one for one in self.made if one.type.endswith(types))

    def one(self, type_: str, name: str) -> Made:
        """The one of this type and name."""
        found = [made for made in self.of(type_) if made.name == name]
        assert len(found) == 1, f"{type_} {name}: {[(made.type, made.name) for made in self.made]}"
        return found[0]

    def resources(self) -> list[Resource]:
        """As the rules about a stack see them."""
        return [
            Resource(type=one.type, name=one.name, properties=one.inputs, is_protected=one.is_protected)
            for one in self.made
        ]


def run(
    program: Callable[[], Awaitable[object] | object],
    config: Mapping[str, object] | None = None,
    *,
    secrets: tuple[str, ...] = (),
    references: Mapping[str, Mapping[str, object]] | None = None,
) -> Run:
    """Run `program` in a stack of its own; raises what it raised."""
    runner = _Runner(program, config or {}, secrets, references or {})
    thread = threading.Thread(target=runner.run)
    thread.start()
    thread.join()
    if runner.failure is not None:
        raise _ours(runner.failure)
    return Run(made=tuple(runner.made), outputs=runner.outputs)


def run_project(project: str, config: Mapping[str, object], **given: Any) -> Run:
    """Run the program in `platform/PROJECT`."""
    place = str(PLATFORM / project / "__main__.py")
    references = {CLUSTER: {"info": INFO, "kubeconfig": "the kubeconfig"}, **given.pop("references", {})}
    return run(lambda: runpy.run_path(place, run_name="__main__") and None, config, references=references, **given)


def is_secret(value: object) -> bool:
    """Whether a value went over the wire as a secret."""
    return isinstance(value, Mapping) and SECRET in value


def opened(value: Any) -> Any:
    """A value with the secrets in it in the clear."""
    if isinstance(value, Mapping):
        return opened(value["value"]) if SECRET in value else {key: opened(item) for key, item in value.items()}
    return [opened(item) for item in value] if isinstance(value, list) else value


class _Runner:
    def __init__(
        self,
        program: Callable[[], Any],
        config: Mapping[str, object],
        secrets: tuple[str, ...],
        references: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.failure: BaseException | None = None
        self.made: list[Made] = []
        self.outputs: dict[str, Any] = {}
        self._program, self._secrets, self._references = program, secrets, references
        self._config = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            self.failure = error

    def _run(self) -> None:
        loops: list[asyncio.AbstractEventLoop] = []

        def open_loop() -> None:
            """One for each thread that Pulumi's mocks use: they would open it, and leave it open."""
            loops.append(asyncio.new_event_loop())
            asyncio.set_event_loop(loops[-1])

        open_loop()
        executor = ThreadPoolExecutor(initializer=open_loop)
        loops[0].set_default_executor(executor)
        try:
            # Outputs that somebody made outside of a run belong to a loop that no longer turns.
            runtime.settings.SETTINGS.outputs.clear()
            runtime.settings.SETTINGS.rpc_manager.clear()
            recorder = _Recorder(self._references)
            runtime.settings.set_root_resource(None)  # type: ignore[arg-type]  # of the run before
            runtime.set_mocks(
                recorder, "test", "test", preview=False, monitor=_Monitor(recorder, self.made, self.outputs)
            )
            runtime.settings.set_root_resource(None)  # type: ignore[arg-type]  # the program's own follows
            runtime.set_all_config(self._config, list(self._secrets))
            loops[0].run_until_complete(runtime.run_in_stack(self._program))
        finally:
            executor.shutdown()
            for loop in loops:
                loop.close()


class _Recorder(runtime.Mocks):
    def __init__(self, references: Mapping[str, Mapping[str, object]]) -> None:
        self._references = references

    def new_resource(self, args: runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            outputs = self._references.get(args.name, {})
            return args.name, {"name": args.name, "outputs": outputs, "secretOutputNames": ["kubeconfig"]}
        return f"{args.name}-id", {**args.inputs, **_known_later(args)}

    def call(self, args: runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return dict(args.args), None


def _known_later(args: runtime.MockResourceArgs) -> dict[str, Any]:
    """What AWS says of its own accord."""
    later: dict[str, Any] = {"arn": f"arn:aws:test:::{args.name}", "allocationId": f"eip-{args.name}"}
    if args.typ == "aws:eks/cluster:Cluster":
        later["endpoint"] = "https://eks.example.com"
        later["certificateAuthority"] = {"data": "Q0E="}
        later["identities"] = [{"oidcs": [{"issuer": "https://oidc.example.com/id/1"}]}]
    return later if args.typ.startswith("aws:") else {}


class _Monitor(runtime.mocks.MockMonitor):
    def __init__(self, recorder: _Recorder, made: list[Made], outputs: dict[str, Any]) -> None:
        super().__init__(recorder)
        self._made, self._outputs = made, outputs

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  # Pulumi's name
        if request.type != "pulumi:pulumi:Stack":
            self._made.append(
                Made(
                    type=request.type,
                    name=request.name,
                    inputs=runtime.rpc.deserialize_properties(request.object, keep_unknowns=True),
                    provider=request.provider,
                    is_protected=request.protect,
                    depends_on=tuple(request.dependencies),
                    aliases=tuple(alias.spec.name for alias in request.aliases),
                )
            )
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802  # Pulumi's name
        if "::pulumi:pulumi:Stack::" in request.urn:
            self._outputs.update(runtime.rpc.deserialize_properties(request.outputs))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def _ours(error: BaseException) -> BaseException:
    """Pulumi wraps what a program raises."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, SlipwayError):
            return link
        link = link.__cause__ or link.__context__
    return error
