"""What a model team's service becomes on Kubernetes, and how a release of it goes through its canary."""

from slipway_platform.services.components import CanaryPipeline, Environment, ModelAlerts, ModelService, Services
from slipway_platform.services.settings import PROJECT, ServiceSettings, ServicesSettings, StackRefusedError

__all__ = [
    "PROJECT",
    "CanaryPipeline",
    "Environment",
    "ModelAlerts",
    "ModelService",
    "ServiceSettings",
    "Services",
    "ServicesSettings",
    "StackRefusedError",
]
