"""What can be wrong with the verdict service; what callers are told is in `app.py`.

UsageError
├── ServiceOpenError       verdicts_open          it would listen to the network and ask nobody who he is
└── StoreVersionError      verdict_store_version  the file is a later slipway's, or another program's
HostError
├── StoreError             verdict_store          the file cannot be used now
├── StoreFullError         verdict_store_full     the disk, or the size that the file may have, is used up
└── ServiceUnreachableError  verdicts_unreachable  it does not answer, or refuses
"""

from slipway_bundle import HostError, UsageError

__all__ = ["ServiceOpenError", "ServiceUnreachableError", "StoreError", "StoreFullError", "StoreVersionError"]


class ServiceOpenError(UsageError):
    """Without keys the service would let everybody on the network decide about releases."""

    code = "verdicts_open"


class StoreVersionError(UsageError):
    """The file of verdicts was written by a later slipway, or is something else."""

    code = "verdict_store_version"


class StoreError(HostError):
    """The file of verdicts cannot be read or written now."""

    code = "verdict_store"


class StoreFullError(HostError):
    """There is no space for another verdict; none of it was kept."""

    code = "verdict_store_full"


class ServiceUnreachableError(HostError):
    """The verdict service does not answer, or refuses what was asked."""

    code = "verdicts_unreachable"
