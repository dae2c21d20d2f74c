"""What verbs of `slipway gate` are told alike: a comparison's arms, amount and promises; evidence and its signers.

The invariant: a flag that is not given is absent, so the plan's own value stays.
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

SIGNERS = click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Public key of who must have signed it; may be repeated.",
)


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


def read_evidence(file: Path) -> bytes:
    """The bytes of `file`. Raises FileError."""
    from slipway_bundle.errors import FileError

    try:
        return file.read_bytes()
    except OSError as error:
        raise FileError(f"the evidence {str(file)!r} cannot be read: {error.strerror}", path=str(file)) from error
