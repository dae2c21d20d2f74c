"""What a runner pool is: its models, their limits, and how many replicas and batches it may have at once.

Wire types too: API workers and runners tell the dispatcher about their pools with them, so unknown fields are accepted
and a new field gets a default. The invariant: a specification that could not serve a single row is refused when it is
made or decoded.
"""

import math

import msgspec

__all__ = ["ModelSpec", "PoolSpec"]


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one model in a pool. The fields mean what they mean in `request.Limits`."""

    name: str
    max_rows: int = 64
    """Rows of the largest batch, at least 1."""
    max_queued_rows: int = 4096
    """Rows that may wait, over all keys of the model."""
    gather_s: float = 0.010
    """Longest time in seconds that a free replica waits for more rows."""
    weight: float = 1.0
    """Share of the replicas, and of a shared device, when several models have something waiting."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_rows <= self.max_queued_rows:
            msg = (
                f"limits of model {self.name!r} contradict each other: expected 1 <= max_rows <= max_queued_rows, "
                f"got max_rows={self.max_rows}, max_queued_rows={self.max_queued_rows}"
            )
            raise ValueError(msg)
        if not (0 <= self.gather_s < math.inf and 0 < self.weight < math.inf):
            msg = (
                f"model {self.name!r} needs gather_s >= 0 s and a weight above 0, "
                f"got gather_s={self.gather_s}, weight={self.weight}"
            )
            raise ValueError(msg)


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of equal replicas, each of which computes every model of the pool."""

    name: str
    """Unique for the dispatcher; the generation of the service is part of it."""
    models: tuple[ModelSpec, ...]
    replicas: int = 1
    """Active at once; further ones that join are standby."""
    in_flight: int = 1
    """Batches handed to one replica at a time. Beyond the first only full batches are."""
    device: str = ""
    """Pools that name the same device share its limit and take turns on it; empty: a device of its own."""
    device_concurrency: int = 0
    """Batches on the device at once over all its pools, the smallest that any of them names; 0: no limit."""
    hang_s: float = 1.0
    """A batch is overdue after this, or after ten times its p95 if that is longer."""

    def __post_init__(self) -> None:
        if min(self.replicas, self.in_flight) < 1 or self.device_concurrency < 0 or not self.hang_s > 0:
            msg = (
                f"pool {self.name!r} needs replicas >= 1, in_flight >= 1, device_concurrency >= 0 and hang_s > 0, got "
                f"replicas={self.replicas}, in_flight={self.in_flight}, "
                f"device_concurrency={self.device_concurrency}, hang_s={self.hang_s}"
            )
            raise ValueError(msg)
        if not self.models or len({model.name for model in self.models}) < len(self.models):
            names = ", ".join(repr(model.name) for model in self.models)
            msg = f"pool {self.name!r} needs at least one model and no name twice, got {names or 'none'}"
            raise ValueError(msg)

    memory_bytes: int = 0
    """A replica a quarter beyond this is killed by the dispatcher's shell; 0 = never."""
