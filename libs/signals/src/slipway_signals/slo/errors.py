"""The errors of objectives: what somebody wrote in `slo.yaml`, and what this machine lacks to check it.

It renders nothing. The invariant is that of the tree in `slipway_bundle.errors`: stable code, exit status by family.

    UsageError
    └── SloError          slo_invalid         `slo.yaml`, always with file:line:column
    IntegrityError
    ├── StaleError        slo_stale           a generated file is not what `slo.yaml` says
    └── RulesRefusedError rules_refused       promtool refuses rules that were compiled
    HostError
    └── PromtoolError     promtool_missing    promtool is not installed, or did not answer
"""

from slipway_bundle.errors import HostError, IntegrityError, UsageError

__all__ = ["PromtoolError", "RulesRefusedError", "SloError", "StaleError"]


class SloError(UsageError):
    """An objective cannot be read or compiled; the message begins with file:line:column."""

    code = "slo_invalid"


class StaleError(IntegrityError):
    """A generated file differs from what its source says."""

    code = "slo_stale"


class RulesRefusedError(IntegrityError):
    """Promtool refuses what was compiled."""

    code = "rules_refused"


class PromtoolError(HostError):
    """Promtool is not installed, or did not answer in time."""

    code = "promtool_missing"
