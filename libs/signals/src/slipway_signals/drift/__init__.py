"""Drift: is what the model sees, and answers, still what it was trained on? Names only.

`building` makes a reference profile of the training sample, `online` counts served rows into its bins, `rules` judges
the counts in PromQL, `stats` has the same formulas in Python and their sources.
"""

from slipway_signals.drift.building import TableError, build_profile
from slipway_signals.drift.fitting import judge_reference
from slipway_signals.drift.online import DriftCounters
from slipway_signals.drift.profile import (
    Profile,
    ProfileError,
    decode_profile,
    encode_profile,
    load_profile,
)
from slipway_signals.drift.tables import read_table

__all__ = [
    "DriftCounters",
    "Profile",
    "ProfileError",
    "TableError",
    "build_profile",
    "decode_profile",
    "encode_profile",
    "judge_reference",
    "load_profile",
    "read_table",
]
