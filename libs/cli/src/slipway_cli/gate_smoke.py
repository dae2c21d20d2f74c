"""`slipway gate smoke`: is a candidate without traffic the bundle that it should be?"""

import os
from pathlib import Path

import click

from slipway_cli.gate_job import INSECURE, READY, WORK, work_folder
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="smoke",
    short_help="Ask a candidate that has no traffic yet.",
    help="Ask a candidate for its interface, its golden examples and its metrics, and compare them with the bundle "
    "that it should be. Prints ok or failed; exit status 1 when one of them failed.\n\n"
    "Of the bundle only documents are read, by digest, from its registry. It is the first step of a rollout: "
    "docs/release.md.",
    examples=(
        (
            "slipway gate smoke --candidate URL --candidate-bundle registry.example.com/churn@sha256:…",
            "a rollout's Job",
        ),
    ),
)
@click.option("--candidate", required=True, metavar="URL", help="Where it answers.")
@click.option("--candidate-admin", metavar="URL", help="Its admin port.")
@click.option("--candidate-bundle", required=True, metavar="REF", help="What it should be: HOST/REPOSITORY@sha256:…")
@click.option("--path", help="The endpoint of the golden examples.  [default: the only one]")
@click.option("--key-env", metavar="NAME", help="Environment variable with the API key or token to send.")
@READY
@WORK
@INSECURE
@click.pass_obj
def smoke(
    terminal: Terminal,
    *,
    candidate: str,
    candidate_admin: str | None,
    candidate_bundle: str,
    path: str | None,
    key_env: str | None,
    ready_s: float,
    work: Path | None,
    insecure: bool,
) -> int:
    """Read what it should be, wait until it is ready, ask."""
    import msgspec

    from slipway_bundle.errors import UsageError
    from slipway_signals.gate.known import fetch_known
    from slipway_signals.gate.load_plan import Target
    from slipway_signals.gate.smoke import await_ready, probe_candidate

    asked = {"url": candidate, "admin": candidate_admin, "key_env": key_env}
    try:
        target = msgspec.convert(asked, Target)
    except msgspec.ValidationError as error:
        raise UsageError(f"the candidate cannot be asked: {error}", hint="write http://HOST:PORT") from error
    with work_folder(work) as folder:
        known = fetch_known(candidate_bundle, folder / "documents", environ=os.environ, is_insecure=insecure)
        await_ready("candidate", candidate, ready_s)
        probes = probe_candidate(known, target, environ=os.environ, path=path)
    is_failed = any(one.status == "failed" for one in probes)
    terminal.document({"result": "failed" if is_failed else "ok", "digest": known.digest, "probes": probes})
    for one in probes:
        line = f"{one.name:<10} {one.status:<8} {one.text}"
        (terminal.insist if one.status == "failed" else terminal.say)(line)
        for detail in one.details:
            terminal.detail(f"           {detail}")
    terminal.result("failed" if is_failed else "ok")
    return 1 if is_failed else 0
