"""The bench's stand-in for an accelerator: 5 ms and 0.1 ms a row, without the processor; what every peer runs too."""

import time

import msgspec
import numpy as np
from msgspec import Struct

from slipway_serve import Arrays, Service, Weights

Row = msgspec.defstruct("Row", [(f"f{i}", float) for i in range(20)], frozen=True, namespace={"__module__": __name__})


class Total(Struct, frozen=True):
    """What every peer answers."""

    churn_probability: float


service = Service("accel")
predict = service.model("accel", Row, Total, path="/predict", slo="realtime")


@predict.compute
def accelerate(weights: Weights, batch: Arrays) -> Arrays:  # noqa: ARG001  # it has none
    """Sleep as an accelerator computes, and add up."""
    columns = [batch[name] for name in batch]
    time.sleep(0.005 + 0.0001 * len(columns[0]))
    return {"churn_probability": np.sum(columns, axis=0)}
