"""Captured requests: names only. Each is documented in its module; what reads Parquet is imported where it is used."""

from slipway_signals.capture.config import CaptureConfig, ModelCapture
from slipway_signals.capture.log import CaptureLog
from slipway_signals.capture.plans import CapturedModel

__all__ = ["CaptureConfig", "CaptureLog", "CapturedModel", "ModelCapture"]
