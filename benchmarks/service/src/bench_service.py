"""The bench's service: twenty anonymous floats in, one probability out; the body that every peer gets."""

import msgspec
from msgspec import Struct

from slipway_serve import Service

Row = msgspec.defstruct("Row", [(f"f{i}", float) for i in range(20)], frozen=True, namespace={"__module__": __name__})


class Risk(Struct, frozen=True):
    """What every peer answers."""

    churn_probability: float


service = Service("bench")
predict = service.model("churn", Row, Risk, path="/predict", slo="realtime")
