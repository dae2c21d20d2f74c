"""What a build reads before it writes: everything cheap is judged here, so that a mistake shows before packing begins.

It writes nothing and imports no user code. The invariant: an `Inputs` is complete and acceptable; what can still go
wrong after it is the disk, a file that changes, and a golden example that does not replay.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from slipway_bundle.config import ModelConfig, ServiceConfig
from slipway_bundle.describe import describe_service
from slipway_bundle.description import ServiceDescription
from slipway_bundle.environment import Environment, load_environment
from slipway_bundle.errors import ConfigError, FileError, GoldenError
from slipway_bundle.golden import Golden, decode_golden
from slipway_bundle.keys import nearest
from slipway_bundle.lineage import created_at, load_lineage, read_source
from slipway_bundle.manifest import Lineage, Source
from slipway_bundle.objectives import read_objectives
from slipway_bundle.pickles import HEAD_BYTES, refuse_pickle
from slipway_bundle.policy import Policy
from slipway_bundle.reference_profiles import read_references
from slipway_bundle.schema import ModelSchema
from slipway_bundle.sources import SourceFile, find_sources
from slipway_bundle.view import model_path
from slipway_bundle.weights import FORMATS, adapter_for

__all__ = ["Announce", "Inputs", "Judge", "read_inputs"]

Announce = Callable[[str, int], None]
"""Called when a step begins: its name, and how many bytes its progress will add up to (0 = it has none)."""


Judge = Callable[[str, bytes, ModelSchema], None]
"""Given a model, the bytes of its reference profile and its schema: raises when they do not fit. What a profile says
inside is not known here."""


class Inputs(Struct, frozen=True, kw_only=True):
    """Everything that goes into a bundle, read or at least looked at."""

    config: ServiceConfig
    sources: tuple[SourceFile, ...]
    weights: dict[str, Path]
    golden: bytes
    examples: int
    """Number of golden examples."""

    references: dict[str, bytes]
    """Model -> its reference profile."""

    objectives: bytes | None
    """The `slo.yaml` beside `slipway.toml`, as it is; None: there is none."""

    environment: Environment
    description: ServiceDescription
    source: Source | None
    created: str | None
    lineage: Lineage | None


def read_inputs(
    config: ServiceConfig, policy: Policy, environ: Mapping[str, str], announce: Announce, judge: Judge
) -> Inputs:
    """Reads and judges the inputs of the service that `config` describes; the last step is its child process.

    Raises:
        SlipwayError: As `build.build` says, less what packing and replaying raise.
    """
    folder, bundle = config.folder, config.bundle
    weights = {name: _checked_weights(config, name, policy) for name in bundle.models}
    sources = find_sources(folder, bundle)
    golden, examples = _checked_golden(config)
    references = read_references(config)
    environment = load_environment(folder)
    lineage = load_lineage(folder, bundle)
    source = read_source(folder, [folder, *environment.sources])
    created = created_at(folder, environ, source)
    announce("describe", 0)
    formats = {name: model.format for name, model in bundle.models.items()}
    description = describe_service(config.entry, folder / bundle.code, formats)
    for model, profile in references.items():
        judge(model, profile, description.models[model])
    return Inputs(
        config=config,
        sources=sources,
        weights=weights,
        golden=golden,
        examples=examples,
        references=references,
        objectives=read_objectives(folder),
        environment=environment,
        description=description,
        source=source,
        created=created,
        lineage=lineage,
    )


def _checked_weights(config: ServiceConfig, name: str, policy: Policy) -> Path:
    """The weights file of a model, which is not a pickle and looks like its format."""
    model = config.bundle.models[name]
    path = model_path(config, name)
    refuse_pickle(path, model.file, model.format, policy.pickle.allow_signers)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if adapter_for(model.format).sniff(head, path.name):
        return path
    others = [known for known in FORMATS if known != model.format and adapter_for(known).sniff(head, path.name)]
    raise ConfigError(
        f"the file of model {name!r} is not in the format {model.format!r}: {model.file!r} begins with {head[:12]!r}",
        hint=f"it looks like {others[0]!r}; write that as `format`"
        if others
        else "is it the file that training wrote?",
        path=model.file,
        model=name,
    )


def _checked_golden(config: ServiceConfig) -> tuple[bytes, int]:
    """The golden file and how many examples it has; each model has at least one."""
    name = config.bundle.golden
    try:
        data = (config.folder / name).read_bytes()
    except FileNotFoundError:
        raise GoldenError(
            f"no golden examples: {name!r} is not in {str(config.folder)!r}",
            hint='write one line a row whose answer you know: {"model": "NAME", "input": {…}, "output": {…}}',
            path=name,
        ) from None
    except OSError as error:
        raise FileError(f"{name!r} cannot be read: {error.strerror}", path=name) from error
    examples = decode_golden(data, where=name)
    _check_models(examples, config.bundle.models, name)
    return data, len(examples)


def _check_models(examples: tuple[Golden, ...], models: Mapping[str, ModelConfig], where: str) -> None:
    for number, example in enumerate(examples, start=1):
        if example.model not in models:
            raise GoldenError(
                f"golden example {number} of {where!r} names model {example.model!r}, expected one of {sorted(models)}",
                hint=nearest(example.model, frozenset(models)),
                line=number,
            )
    for model in models:
        if all(example.model != model for example in examples):
            raise GoldenError(
                f"model {model!r} has no golden example in {where!r}, expected at least one",
                hint="without one nobody can tell whether a bundle still answers as it did when it was trained",
                model=model,
            )
