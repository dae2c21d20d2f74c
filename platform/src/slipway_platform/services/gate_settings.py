"""How a release goes through its canary: the `canary` of a service. docs/canary.md says what each does.

It makes no object: `canary` does. The invariant: weights rise, and the last is 100.
"""

from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["Canary", "Freeze", "Guard", "SecretVariable", "Stage"]

Seconds = Annotated[int, Meta(ge=1)]


class Stage(Struct, frozen=True, kw_only=True):
    """One weight: the candidate gets so much of the traffic, is measured, and is judged."""

    weight: Annotated[int, Meta(ge=1, le=100)]
    """Percent."""
    bake: Annotated[str, Meta(pattern=r"^[1-9][0-9]*[smh]\Z")] | None = None
    """Stay for so long after the verdict, watched by the guard alone: `24h`."""
    waits: bool = False
    """Stay until a person promotes."""


class Guard(Struct, frozen=True, kw_only=True):
    """What Prometheus is asked all the time while the candidate has users: the absolute line, not the comparison."""

    errors: Annotated[float, Meta(gt=0, le=1)] = 0.05
    """Share of failed or refused requests that the candidate proves to exceed, and is aborted."""
    window_s: Annotated[int, Meta(ge=30)] = 120
    interval_s: Annotated[int, Meta(ge=5)] = 30
    failures: Annotated[int, Meta(ge=0)] = 1
    """Bad answers that are forgiven; one more aborts."""
    silent: Annotated[int, Meta(ge=0)] = 10
    """Empty answers that are forgiven (the candidate is not scraped); one more pauses the rollout."""


class Freeze(Struct, frozen=True, kw_only=True):
    """What keeps a release from starting. `slipway gate freeze` always does."""

    budget_left: Annotated[float, Meta(ge=0, lt=1)] | None = 0.0
    """Share of the error budget that must be left, of each objective; None: it is not asked."""
    pages: bool = True
    """Not while a page about this service fires."""


class SecretVariable(Struct, frozen=True, kw_only=True):
    """An environment variable of the gate's Jobs, out of a Secret: the API key that a load plan names."""

    name: Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]*\Z")]
    secret: str
    key: str


class Canary(Struct, frozen=True, kw_only=True):
    """The way from a dark pod to all of the traffic."""

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)] = tuple(Stage(weight=at) for at in (10, 30, 50, 100))
    plan: str | None = None
    """The gate's plan, relative to the repository: `services/churn/gate.toml`; None: the gate's defaults."""
    variables: tuple[SecretVariable, ...] = ()
    smoke_s: Seconds = 300
    """A smoke Job that takes longer has failed; a pull that is stuck is one too."""
    stage_s: Seconds = 1_500
    """The same of a stage's Job: the gate's 15 minutes, and room for the start."""
    cpu: str = "1"
    """Of a Job: the load comes from there."""
    memory: str = "1Gi"
    priority_class: str | None = "slipway-batch"
    """Of Jobs: serving goes before them. Made by `platform/addons`."""
    progress_s: Seconds = 600
    """Pods that are not ready in this time abort the release."""
    keep_previous_s: Seconds = 300
    """Replaced pods stay for so long, for whoever goes back."""
    patience: Annotated[int, Meta(ge=0)] = 30
    """Questions to the verdict service and to Prometheus that may fail, 10 s apart; one more aborts."""
    guard: Guard = Guard()
    freeze: Freeze = Freeze()

    def __post_init__(self) -> None:
        """Weights rise up to 100."""
        weights = [stage.weight for stage in self.stages]
        if any(low >= high for low, high in pairwise(weights)) or weights[-1:] != [100]:
            raise ValueError(f"`stages` has the weights {weights}, expected rising ones, the last of them 100")
