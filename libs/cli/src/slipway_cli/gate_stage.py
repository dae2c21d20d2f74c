"""`slipway gate stage`: one stage of a rollout, measured and told to the verdict service."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slipway_cli.gate_job import INSECURE, READY, WORK, work_folder
from slipway_cli.gate_options import FILE, asked_of
from slipway_cli.gate_post import service_at, service_options
from slipway_cli.gate_run import say_decision, say_look
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_signals.gate.known import KnownBundle

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""A minute: as long as a service takes to come back on another node."""

EXAMPLE: Final = (
    "slipway gate stage --rollout shop/churn --pod-hash 6d5f8b --stage 10 --stable URL --candidate URL "
    "--candidate-bundle registry.example.com/churn@sha256:… --plan gate.toml --to URL --key-file verdicts.key"
)

HURRIED_S: Final = (1.0, 2.0, 4.0)
"""After SIGTERM: a pod has 30 seconds, of which the load process may take 5."""


@click.command(
    cls=Verb,
    name="stage",
    short_help="Measure one stage of a rollout, and post the evidence.",
    help="Do for one stage of a rollout what `slipway gate run` and `slipway gate post` do: compare the candidate with "
    "stable, write the evidence, post it to the verdict service. Prints the verdict.\n\n"
    "Exit status 0 when the evidence was kept, whatever it says: the verdict is asked for in a step of its own "
    "(`slipway gate ask`). Golden examples and objectives are read from the bundle in its registry; no weights come. "
    "SIGTERM ends the load, and what was counted is posted as inconclusive.",
    examples=((EXAMPLE, "as the Job of a rollout does"),),
)
@click.option("--rollout", required=True, metavar="NAMESPACE/NAME", help="Which rollout this is about.")
@click.option("--pod-hash", required=True, metavar="HASH", help="Of the candidate's pods.")
@click.option("--stage", required=True, metavar="NAME", help="Of the rollout: 10, 30, 50, 100.")
@click.option("--stable", required=True, metavar="URL", help="What has the traffic.")
@click.option("--candidate", required=True, metavar="URL", help="What is on trial.")
@click.option("--stable-admin", metavar="URL", help="Its admin port, for CPU, queue and cost.")
@click.option("--candidate-admin", metavar="URL", help="The candidate's.")
@click.option("--candidate-bundle", required=True, metavar="REF", help="What it should be: HOST/REPOSITORY@sha256:…")
@click.option("--stable-bundle", metavar="REF", help="What stable should be.  [default: any one bundle]")
@click.option("--plan", type=FILE, help="A gate.toml; flags win over it.")
@click.option("--slo", type=FILE, help="Objectives.  [default: those of the candidate's bundle]")
@click.option("--path", help="The endpoint that is asked.  [default: that of the plan, /predict]")
@click.option("--rate", type=float, help="Inputs a second; each goes to both.")
@click.option("--seconds", type=float, help="How long at most, with the warm-up.")
@click.option("--anyway", is_flag=True, help="Run a plan that cannot conclude; it does not pass.")
@click.option("--same", is_flag=True, help="Both are the same bundle: a trial of the gate itself.")
@service_options[0]
@service_options[1]
@service_options[2]
@click.option("--key", help="Who signs the evidence: a private key, or a key service.")
@click.option("--public", metavar="FILE", help="The public key (PEM) of a key service.")
@click.option("--evidence", type=FILE, help="Also keep the evidence here.")
@READY
@WORK
@INSECURE
@click.pass_obj
def stage_verb(
    terminal: Terminal,
    /,
    *,
    url: str,
    key_file: Path | None,
    authority: Path | None,
    key: str | None,
    public: str | None,
    evidence: Path | None,
    anyway: bool,
    ready_s: float,
    work: Path | None,
    insecure: bool,
    **flags: Any,
) -> None:
    """Prepare, measure, post, say."""
    from msgspec.structs import replace

    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_signer
    from slipway_signals.gate.asking import conduct, prepare, subject_of, write_evidence
    from slipway_signals.gate.ending import ended_by_sigterm
    from slipway_signals.gate.smoke import await_ready

    # What cannot be read should not cost a minute of load.
    service_at(url, key_file, authority)
    signer = (
        None if key is None else load_signer(key, environ=os.environ, public=None if public is None else Path(public))
    )
    subject = subject_of(flags["rollout"], flags["pod_hash"], flags["stage"])
    with work_folder(work) as folder, ended_by_sigterm() as ending:
        refs = {arm: flags.pop(f"{arm}_bundle") for arm in ("stable", "candidate")}
        known = {arm: _known(ref, folder, insecure=insecure) for arm, ref in refs.items() if ref is not None}
        nothing_local = {f"{arm}{suffix}": None for arm in refs for suffix in ("_bundle", "_golden")}
        asked = replace(asked_of({**flags, **nothing_local}, subject=subject), known=known)
        prepared = prepare(asked, lambda: Store.open(folder / "documents"))
        for arm, target in asked.urls.items():
            await_ready(arm, target, ready_s)
        found = conduct(
            asked,
            prepared,
            os.environ,
            is_forced=anyway,
            announce=lambda look: say_look(terminal, look),
            ending=ending,
        )
        path = evidence or folder / "evidence.json"
        digest = write_evidence(found, path, signer)
        say_decision(terminal, found)
        pauses_s = HURRIED_S if ending.is_asked else PAUSES_S
        kept = service_at(url, key_file, authority, pauses_s=pauses_s).post(path.read_bytes())
    terminal.document({"verdict": kept.verdict, "digest": digest, "kept": kept, "was_ended": ending.is_asked})
    terminal.say(f"kept for stage {kept.stage.stage} of {kept.stage.rollout} at {kept.stage.pod_hash}: {kept.reason}")


def _known(ref: str, folder: Path, *, insecure: bool) -> "KnownBundle":
    from slipway_signals.gate.known import fetch_known

    return fetch_known(ref, folder / "documents", environ=os.environ, is_insecure=insecure)
