"""What `slipway gate run` and `slipway gate preflight` are told alike: whom, how much, by which promises.

It reads no file. The invariant: a flag that is not given is absent, so the plan's own value stays.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from slipway_signals.gate.asking import Asked
    from slipway_signals.gate.evidence import Subject

F = TypeVar("F", bound=Callable[..., object])

FILE = click.Path(path_type=Path, dir_okay=False)


def plan_options(command: F) -> F:
    """The options, in the order in which help shows them."""
    options = (
        click.option("--plan", type=FILE, help="A gate.toml; flags win over it."),
        click.option("--slo", type=FILE, help="The objectives that margins follow from."),
        click.option("--stable", metavar="URL", help="What has the traffic."),
        click.option("--candidate", metavar="URL", help="What is on trial."),
        click.option("--stable-admin", metavar="URL", help="Its admin port, for CPU, queue and cost."),
        click.option("--candidate-admin", metavar="URL", help="The candidate's."),
        click.option("--stable-bundle", metavar="REF", help="The bundle that stable should be, in the local store."),
        click.option("--candidate-bundle", metavar="REF", help="The candidate's; its slo.yaml counts without --slo."),
        click.option("--stable-golden", metavar="FILE", type=FILE, help="Golden examples of stable."),
        click.option("--candidate-golden", metavar="FILE", type=FILE, help="The candidate's."),
        click.option("--path", help="The endpoint that is asked.  [default: /predict]"),
        click.option("--rate", type=float, help="Inputs a second; each goes to both."),
        click.option("--seconds", type=float, help="How long at most, with the warm-up."),
        click.option("--same", is_flag=True, help="Both are the same bundle: a trial of the gate itself."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def asked_of(flags: Mapping[str, Any], *, windows: Path | None = None, subject: "Subject | None" = None) -> "Asked":
    """The flags as one record."""
    from slipway_signals.gate.asking import Asked
    from slipway_signals.gate.records import ARMS

    def both(suffix: str) -> dict[Any, Any]:
        values = {arm: flags[f"{arm}{suffix}"] for arm in ARMS}
        return {arm: value for arm, value in values.items() if value is not None}

    return Asked(
        plan=flags["plan"],
        slo=flags["slo"],
        urls=both(""),
        admins=both("_admin"),
        bundles=both("_bundle"),
        golden=both("_golden"),
        path=flags["path"],
        rate=flags["rate"],
        seconds=flags["seconds"],
        is_same=flags["same"],
        windows=windows,
        subject=subject,
    )
