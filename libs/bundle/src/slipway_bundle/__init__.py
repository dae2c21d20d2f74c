"""The model package: names only. Each is documented in its module."""

from slipway_bundle.build import Built, build
from slipway_bundle.config import BundleConfig, Format, ModelConfig, ServiceConfig, load_config
from slipway_bundle.description import EndpointDescription, ModelLike, ServiceDescription, ServiceLike
from slipway_bundle.diff import BundleDiff, Change, diff_bundles
from slipway_bundle.digest import Digest
from slipway_bundle.errors import ConfigError, HostError, IntegrityError, SlipwayError, UsageError
from slipway_bundle.golden import Golden, Mismatch, Tolerance
from slipway_bundle.manifest import Lineage, Manifest
from slipway_bundle.policy import Policy, load_policy
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.redaction import Redact
from slipway_bundle.replay import replay
from slipway_bundle.requirements import Difference, check_environment
from slipway_bundle.rows import RowCodec, RowError
from slipway_bundle.schema import Arrays, Datatype, ModelSchema, SchemaError, TensorSpec
from slipway_bundle.shapes import F32, F64, I32, I64, U8, Bool, Shape
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.verify import VerifyReport, verify
from slipway_bundle.view import BundleView, LoadedModel, load_service, open_any, open_bundle, open_folder
from slipway_bundle.weights import Adapter, Weights, WeightsFile, adapter_for, bind_outputs, predict

__all__ = [
    "F32",
    "F64",
    "I32",
    "I64",
    "QUIET",
    "U8",
    "Adapter",
    "Arrays",
    "Bool",
    "Built",
    "BundleConfig",
    "BundleDiff",
    "BundleView",
    "Change",
    "ConfigError",
    "Datatype",
    "Difference",
    "Digest",
    "EndpointDescription",
    "Format",
    "Golden",
    "HostError",
    "IntegrityError",
    "Lineage",
    "LoadedModel",
    "Manifest",
    "Mismatch",
    "ModelConfig",
    "ModelLike",
    "ModelSchema",
    "Policy",
    "Progress",
    "Redact",
    "RowCodec",
    "RowError",
    "SchemaError",
    "ServiceConfig",
    "ServiceDescription",
    "ServiceLike",
    "Shape",
    "SlipwayError",
    "Store",
    "StoredBundle",
    "TensorSpec",
    "Tolerance",
    "UsageError",
    "VerifyReport",
    "Weights",
    "WeightsFile",
    "adapter_for",
    "bind_outputs",
    "build",
    "check_environment",
    "diff_bundles",
    "load_config",
    "load_policy",
    "load_service",
    "open_any",
    "open_bundle",
    "open_folder",
    "predict",
    "read_bundle",
    "replay",
    "verify",
]
