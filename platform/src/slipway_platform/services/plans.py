"""The gate's plan of a service, read and checked before a cluster sees it.

It runs nothing. The invariant: a plan that the gate would refuse, or that a Job has no time for, fails the preview.
"""

from pathlib import Path
from typing import Final

from slipway_platform.services.settings import StackRefusedError
from slipway_signals.gate.plan import make_plan, parse_plan

__all__ = ["read_plan"]

ROOM_S: Final = 120
"""Of a Job, beside its load: to start, to fetch golden examples, to judge and to post."""
CLUSTER_ARMS: Final = {"stable": {"url": "http://stable"}, "candidate": {"url": "http://candidate"}}
"""For a plan without arms."""


def read_plan(root: Path, path: str, deadline_s: int) -> str:
    """The text of a plan.

    Args:
        root: Of the repository.
        path: Relative to it.
        deadline_s: What a stage's Job may take.

    Raises:
        StackRefusedError: There is no such file, or its load takes longer than the Job may.
        ConfigError: The gate would refuse it.
    """
    where = root / path
    try:
        data = where.read_bytes()
    except OSError as error:
        raise StackRefusedError(
            f"the gate's plan {path!r} cannot be read: {error.strerror}",
            hint=f"`plan` is relative to the repository, {str(root)!r}",
        ) from error
    raw = parse_plan(data, path)
    load = raw.get("load")
    if isinstance(load, dict):
        raw["load"] = {"arms": CLUSTER_ARMS, **load}  # a Job's flags say where the arms are
    plan = make_plan(raw, path)
    if plan.load is not None and plan.load.seconds + ROOM_S > deadline_s:
        raise StackRefusedError(
            f"{path}: the load takes {plan.load.seconds:g} s and a stage's Job has {deadline_s} s; "
            f"expected {ROOM_S} s more than the load",
            hint="raise `canary.stage_s`, or shorten the plan",
        )
    return data.decode()
