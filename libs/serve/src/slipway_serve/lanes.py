"""Makes the lane of each model of a service, where its configuration places it: here, in a runner pool, or remote.

It batches nothing and serves nothing. The invariant: whatever the place, the lane has the same codecs, so the answers
are the same; and a process that has no weights of a model never imports the library of its format.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from slipway_bundle import BundleView, ConfigError, LoadedModel
from slipway_bundle.description import codecs
from slipway_bundle.replay import check_golden, examples_by_model, refuse_mismatches
from slipway_runtime import Limits, Pool
from slipway_runtime.concurrent_pool import ConcurrentPool
from slipway_runtime.dispatch.spec import PoolSpec
from slipway_runtime.keyed_pool import KeyedPool
from slipway_runtime.pool_client import PoolClient
from slipway_serve.computation import Computation, Payload, load_weights
from slipway_serve.config import ModelRuntime
from slipway_serve.lane import Lane, LaneObserver, LanePool, Outputs, outputs_from
from slipway_serve.service import Model, StreamModel
from slipway_serve.streams import StreamLane
from slipway_serve.watching import SYNTHETIC, is_synthetic
from slipway_signals.traces_record import RequestTrace, current_trace, headers_out

logger = logging.getLogger(__name__)

THREADS_HERE: Final = 1


def lane_here(model: Model[Any, Any], view: BundleView, runtime: ModelRuntime, observer: LaneObserver) -> Lane:
    """A lane whose weights are in this process.

    Raises:
        SlipwayError: the weights cannot be loaded, or a bundle's golden examples fail.
    """
    computation = Computation(model, view.models[model.name], threads=runtime.threads or THREADS_HERE)
    check_examples(view, model, computation)
    return _local_lane(computation, limits_of(runtime), observer)


def lane_in_pool(
    model: Model[Any, Any],
    loaded: LoadedModel,
    runtime: ModelRuntime,
    observer: LaneObserver,
    client: PoolClient,
    spec: PoolSpec,
) -> Lane:
    """A lane whose weights are in the runners of a pool."""
    inputs, outputs = codecs(model, loaded.config.format)
    pool = client.line(
        spec.name, model.name, limits=limits_of(runtime), decode=outputs_from(outputs), observer=observer
    )
    return Lane(model.name, inputs, outputs, pool, observer, place="pool")


def lane_remote(model: Model[Any, Any], loaded: LoadedModel, runtime: ModelRuntime, observer: LaneObserver) -> Lane:
    """A lane whose weights are in another server (Open Inference Protocol v2). Blocks until that server has answered.

    Raises:
        SlipwayError: it cannot be reached, or has no model with these tensors.
    """
    from slipway_serve.far_end import RemoteUnavailable  # brings an HTTP client and gRPC along
    from slipway_serve.remote import connect

    inputs, outputs = codecs(model, loaded.config.format)
    far = connect(runtime.remote or "", model, inputs, outputs)
    computation = Computation(model, loaded, threads=THREADS_HERE, weights=far, is_whole=far.is_whole_step)

    def compute(
        key: bytes, payloads: Sequence[Payload], rows: int, seconds: float, callers: Sequence[object]
    ) -> Outputs:
        with far.with_deadline(seconds, call_headers(callers)):
            return Outputs(computation.compute(key, payloads, rows), outputs)

    pool = ConcurrentPool(
        model.name,
        compute,
        concurrency=runtime.calls,
        limits=limits_of(runtime),
        unblamed=(RemoteUnavailable,),
        caller=_asking,
        observer=observer,
    )
    return Lane(model.name, inputs, outputs, pool, observer, place="remote", close=far.close)


class Caller(NamedTuple):
    """Who asked for rows of a remote model."""

    trace: RequestTrace | None
    is_synthetic: bool


def call_headers(callers: Sequence[object]) -> Mapping[str, str]:
    """What one call for many says of them.

    It belongs to the trace of the first caller whose trace is sampled, or of the first: a call has one parent, and what
    nobody sampled would lead nowhere. It is synthetic if all of them are: nothing of a user goes uncounted.
    """
    asked = [caller for caller in callers if isinstance(caller, Caller)]
    traces = [caller.trace for caller in asked if caller.trace is not None]
    sampled = next((trace for trace in traces if trace.is_sampled), None)
    headers = headers_out(sampled or next(iter(traces), None))
    return {**headers, **SYNTHETIC} if asked and all(caller.is_synthetic for caller in asked) else headers


def _asking() -> Caller:
    """The request of this task. Its ids are drawn here, on the event loop: the thread that calls must not write."""
    trace = current_trace.get()
    if trace is not None:
        trace.ids()
    return Caller(trace, is_synthetic())


def stream_here(
    model: StreamModel[Any, Any], loaded: LoadedModel, runtime: ModelRuntime, observer: LaneObserver
) -> StreamLane:
    """A stream model's source, with its weights in this process.

    Raises:
        ConfigError: it has no `compute`, or is placed elsewhere.
        SlipwayError: the weights cannot be loaded.
    """
    if model.function is None:
        raise ConfigError(
            f"stream model {model.name!r} has no `compute`",
            hint=f"write `@{model.name}.compute` above a generator function of (weights, prompt)",
        )
    if runtime.pool is not None or runtime.remote is not None:
        raise ConfigError(
            f"`runtime.models.{model.name}` places a stream model elsewhere: streams run in the API workers",
            hint="remove `pool` and `remote`; raise `workers` for more streams at once",
        )
    weights = load_weights(model.name, loaded, (), threads=runtime.threads or THREADS_HERE)
    generate = partial(model.function, weights)
    return StreamLane(model.name, generate, model.answer, places=runtime.streams, observer=observer)


def limits_of(runtime: ModelRuntime) -> Limits:
    """The bounds of a model's pool."""
    return Limits(
        max_rows=runtime.max_rows if runtime.batching else 1,
        max_queued_rows=runtime.queue_rows,
        gather_s=runtime.gather_ms / 1_000 if runtime.batching else 0.0,
        inline_s=runtime.inline_ms / 1_000,
    )


def check_examples(view: BundleView, model: Model[Any, Any], computation: Computation) -> None:
    """Run the model's golden examples: a bundle's must hold before it serves, a folder's are told about.

    Raises:
        GoldenMismatchError: a bundle answers otherwise than it was built to.
    """
    examples = examples_by_model(view.golden).get(model.name, [])
    mismatches = check_golden(model, view.models[model.name], computation.weights, examples)
    if view.content_digest is not None:
        refuse_mismatches(mismatches, len(examples))
    for mismatch in mismatches:
        logger.warning("golden example %d of model %s is answered otherwise: %s", mismatch.line, model.name, mismatch)


def _local_lane(computation: Computation, limits: Limits, observer: LaneObserver) -> Lane:
    outputs = computation.outputs

    def compute(key: bytes, payloads: Sequence[Payload], rows: int) -> Outputs:
        return Outputs(computation.compute(key, payloads, rows), outputs)

    def compute_fixed(payloads: Sequence[Payload], rows: int) -> Outputs:
        return Outputs(computation.compute(b"", payloads, rows), outputs)

    pool: LanePool
    if computation.inputs.is_keyed:
        pool = KeyedPool(computation.name, compute, limits=limits, observer=observer)
    else:
        pool = Pool(computation.name, compute_fixed, limits=limits, observer=observer)
    return Lane(computation.name, computation.inputs, outputs, pool, observer, computation.load_s)
