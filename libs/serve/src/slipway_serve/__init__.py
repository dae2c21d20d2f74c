"""HTTP for models: what a model team writes, and nothing heavier.

Importing this package must not import the web framework: runners and tests import service modules too (tested).

    from slipway_serve import Service

    service = Service("churn")
    predict = service.model("churn", Customer, Risk, path="/predict", slo="realtime")
"""

from slipway_bundle import F32, F64, I32, I64, U8, Arrays, Redact, Shape, Weights
from slipway_serve.call import Call
from slipway_serve.concurrency import gather
from slipway_serve.local import local
from slipway_serve.problems import Problem
from slipway_serve.service import Endpoint, Model, Resource, Service, StreamModel, offload

__all__ = [
    "F32",
    "F64",
    "I32",
    "I64",
    "U8",
    "Arrays",
    "Call",
    "Endpoint",
    "Model",
    "Problem",
    "Redact",
    "Resource",
    "Service",
    "Shape",
    "StreamModel",
    "Weights",
    "gather",
    "local",
    "offload",
]
