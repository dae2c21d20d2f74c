"""The errors of capture; the rest of the tree is in `slipway_bundle.errors`.

It renders nothing. The invariant is that of the tree: stable code, exit status by family.

    UsageError
    ├── CaptureConfigError      capture_config      a field that a model's answer does not have, …
    └── LabelFileError          labels_invalid      a label file that cannot be read at all
    HostError
    ├── CaptureFolderError      capture_folder      the folder or its keys cannot be used, or are open to others
    ├── CaptureBusyError        capture_busy        another process compacts or forgets, or a worker does not answer
    └── CaptureExtraError       capture_extra       pyarrow is not installed
"""

from slipway_bundle.errors import HostError, UsageError

__all__ = ["CaptureBusyError", "CaptureConfigError", "CaptureExtraError", "CaptureFolderError", "LabelFileError"]


class CaptureConfigError(UsageError):
    """The configuration of capture does not fit the models."""

    code = "capture_config"


class LabelFileError(UsageError):
    """A label file that cannot be read at all."""

    code = "labels_invalid"


class CaptureFolderError(HostError):
    """The capture folder or its key file cannot be used."""

    code = "capture_folder"


class CaptureBusyError(HostError):
    """Another process is at work in the folder, or one that captures does not answer."""

    code = "capture_busy"


class CaptureExtraError(HostError):
    """pyarrow, which reads and writes Parquet, is not installed."""

    code = "capture_extra"
