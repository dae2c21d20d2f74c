"""`slipway`: the command tree, and the one function that runs it.

It does nothing itself. The invariant: importing it imports click and nothing heavier, so that `slipway --help` answers
within 150 ms; each verb imports its library when it runs.
"""

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from slipway_cli.access_key_list import list_access_keys
from slipway_cli.access_key_new import new_access_key
from slipway_cli.access_key_revoke import revoke_access_keys
from slipway_cli.boundary import guarded
from slipway_cli.bundle_approve import approve
from slipway_cli.bundle_attest import attest
from slipway_cli.bundle_build import build
from slipway_cli.bundle_compatible import compatible
from slipway_cli.bundle_copy import copy
from slipway_cli.bundle_diff import diff
from slipway_cli.bundle_gc import gc
from slipway_cli.bundle_image import image
from slipway_cli.bundle_inspect import inspect
from slipway_cli.bundle_list import list_bundles
from slipway_cli.bundle_pull import pull
from slipway_cli.bundle_push import push
from slipway_cli.bundle_rm import rm
from slipway_cli.bundle_sbom import sbom
from slipway_cli.bundle_scan import scan
from slipway_cli.bundle_sign import sign
from slipway_cli.bundle_signatures import signatures
from slipway_cli.bundle_tag import tag
from slipway_cli.bundle_verify import verify
from slipway_cli.capture_compact import compact
from slipway_cli.capture_forget import forget
from slipway_cli.client import client
from slipway_cli.console import console
from slipway_cli.doctor import doctor
from slipway_cli.drift_hook import drift_hook
from slipway_cli.drift_report import drift_report
from slipway_cli.gate_ask import ask_verdict
from slipway_cli.gate_attest import attest_gate
from slipway_cli.gate_freeze import freeze
from slipway_cli.gate_post import post_evidence
from slipway_cli.gate_preflight import preflight
from slipway_cli.gate_replay import replay
from slipway_cli.gate_report import report_evidence
from slipway_cli.gate_run import run_gate_verb
from slipway_cli.gate_serve import serve_gate
from slipway_cli.gate_smoke import smoke
from slipway_cli.gate_stage import stage_verb
from slipway_cli.gate_unfreeze import unfreeze
from slipway_cli.keys_new import new_keys
from slipway_cli.lab import lab
from slipway_cli.labels_ingest import ingest
from slipway_cli.load_compare import compare_load
from slipway_cli.load_find_capacity import find_capacity
from slipway_cli.load_run import run_load
from slipway_cli.new import new
from slipway_cli.oncall import oncall
from slipway_cli.policy_admission import admission
from slipway_cli.policy_check import check_policy
from slipway_cli.policy_explain import explain_policy
from slipway_cli.policy_webhook import webhook
from slipway_cli.postmortem_new import new_postmortem
from slipway_cli.promote import promote
from slipway_cli.ready import ready
from slipway_cli.registry_list import list_tags
from slipway_cli.rollback import rollback
from slipway_cli.serve import serve
from slipway_cli.simulate import simulate
from slipway_cli.slo_build import build_slos
from slipway_cli.slo_check import check_slos
from slipway_cli.slo_explain import explain_slos
from slipway_cli.split import split
from slipway_cli.swap import swap
from slipway_cli.terminal import Terminal
from slipway_cli.traffic import traffic
from slipway_cli.verbs import VerbGroup


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's order
    if asked and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"slipway {version('slipway-cli')}")
        context.exit()


@click.group(
    cls=VerbGroup,
    is_root=True,
    name="slipway",
    help="""Package a model, serve it, and release it on evidence.

    Results go to stdout, one reference a line; words, progress and errors go to stderr. Bundles are kept in
    $SLIPWAY_HOME/store, by default in the user's data folder.

    \b
    Exit status:
      0    done
      1    the answer is no: verify, a golden example, a check
      2    wrong usage: an option, a reference, a configuration
      3    this machine or the network: disk, permission, port, program
      70   a bug in slipway
      130  interrupted
      141  whoever read the output left

    An error under --json is {"error": {code, message, hint, exit_status, fields}}. Completion for bash, zsh and fish:
    eval "$(_SLIPWAY_COMPLETE=bash_source slipway)"
    """,
    examples=(
        ("slipway new fraud", "start a service"),
        ("slipway bundle build services/churn", "package it"),
        ("slipway serve churn", "serve what was packaged"),
    ),
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def slipway() -> None:
    """The root."""


@click.group(
    cls=VerbGroup,
    name="bundle",
    help="Build, read and keep model bundles.",
    examples=(
        ("slipway bundle build services/churn", "prints the new bundle's reference"),
        ("slipway bundle inspect churn", "a table of what is in it"),
        ("slipway bundle verify churn", "hash everything, replay the golden examples"),
    ),
)
def bundle() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="slo",
    help="Compile a service's objectives into rules and tested alerts.",
    examples=(
        ("slipway slo check services/churn/slo.yaml", "is it right?"),
        ("slipway slo build", "write observability/"),
        ("slipway slo explain churn", "when does which alert fire?"),
    ),
)
def slo() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="capture",
    help="Keep and forget what requests were captured.",
    examples=(
        ("slipway capture compact --folder capture", "make Parquet of what was captured"),
        ("slipway capture forget --folder capture --subject c-1042", "take a person out again"),
    ),
)
def capture() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="labels",
    help="Tell what became of predictions.",
    examples=(("slipway labels ingest --folder capture labels.csv", "count labels against predictions"),),
)
def labels() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="drift",
    help="Compare what a model sees with what it was trained on.",
    examples=(
        ("slipway drift report captured/churn --profile model/reference.json", "write a page to read"),
        ("slipway drift hook --to https://ci.example.com/hooks/retrain", "start a training when drift has lasted"),
    ),
)
def drift() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="load",
    help="Put load on servers as users do: without waiting for the answer before.",
    examples=(
        ("slipway load run --url http://127.0.0.1:8000", "latencies under 100 requests a second"),
        ("slipway load find-capacity --url URL --slo slo.yaml", "how much it can take"),
    ),
)
def load() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="gate",
    help="Let a candidate take traffic only when it is shown to be no worse.",
    examples=(
        ("slipway gate run --stable URL --candidate URL --slo slo.yaml", "pass, fail or inconclusive"),
        ("slipway gate replay evidence.json", "does the verdict follow from the counts?"),
        ("slipway gate report evidence.json", "the page that a reviewer reads"),
        ("slipway gate serve", "keep verdicts for rollouts"),
        ("slipway gate post evidence.json --to URL", "hand evidence to it"),
    ),
)
def gate() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="postmortem",
    help="Write down what happened.",
    examples=(("slipway postmortem new churn --since 6h", "begin with what the systems know"),),
)
def postmortem() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="access",
    help="Say who may call a server.",
    examples=(("slipway access key new billing --keys keys.json", "an API key for a client"),),
)
def access() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="key",
    help="Make, list and revoke API keys.",
    examples=(
        ("slipway access key new billing --keys keys.json", "prints the key, once"),
        ("slipway access key list --keys keys.json", "who has one"),
        ("slipway access key revoke 3f2a9c01 --keys keys.json", "valid no more"),
    ),
)
def access_key() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="registry",
    help="Look at what a registry has.",
    examples=(("slipway registry list registry.example.com/team/churn", "the tags that are there"),),
)
def registry() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="keys",
    help="Make keys that sign bundles.",
    examples=(("slipway keys new release", "a pair: release.key signs, release.pub is for policy.toml"),),
)
def keys() -> None:
    """The verbs of a noun."""


@click.group(
    cls=VerbGroup,
    name="policy",
    help="Say what may run: signers, builders, licences, formats, age, approvals, vulnerabilities.",
    examples=(
        ("slipway policy explain", "what does policy.toml ask?"),
        ("slipway policy check churn", "would it let this bundle run?"),
        ("slipway policy admission | kubectl apply -f -", "let a cluster ask too"),
    ),
)
def policy() -> None:
    """The verbs of a noun."""


for _verb in (new_access_key, list_access_keys, revoke_access_keys):
    access_key.add_command(_verb)
access.add_command(access_key)
for _verb in (
    build,
    image,
    inspect,
    verify,
    sbom,
    scan,
    attest,
    sign,
    approve,
    signatures,
    diff,
    compatible,
    list_bundles,
    rm,
    gc,
    push,
    pull,
    copy,
    tag,
):
    bundle.add_command(_verb)
registry.add_command(list_tags)
for _verb in (check_slos, build_slos, explain_slos):
    slo.add_command(_verb)
for _verb in (compact, forget):
    capture.add_command(_verb)
labels.add_command(ingest)
for _verb in (drift_report, drift_hook):
    drift.add_command(_verb)
for _verb in (run_load, find_capacity, compare_load):
    load.add_command(_verb)
for _verb in (
    preflight,
    run_gate_verb,
    replay,
    report_evidence,
    attest_gate,
    serve_gate,
    post_evidence,
    ask_verdict,
    smoke,
    stage_verb,
):
    gate.add_command(_verb)
for _verb in (freeze, unfreeze):
    gate.add_command(_verb)
postmortem.add_command(new_postmortem)
keys.add_command(new_keys)
for _verb in (check_policy, explain_policy, admission, webhook):
    policy.add_command(_verb)
for _top in (
    serve,
    split,
    swap,
    simulate,
    new,
    client,
    bundle,
    registry,
    slo,
    capture,
    labels,
    drift,
    load,
    gate,
    lab,
    access,
    keys,
    policy,
    promote,
    rollback,
    traffic,
    oncall,
    postmortem,
    console,
    ready,
    doctor,
):
    slipway.add_command(_top)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line (without the program's name) and gives its exit status."""
    before, *_ = " ".join(arguments).split(" -- ")
    terminal = Terminal(json="--json" in before.split())  # known before parsing, which may fail

    def invoke() -> object:
        with slipway.make_context("slipway", list(arguments), obj=terminal) as context:
            return slipway.invoke(context)

    return guarded(invoke, terminal, arguments)


def main() -> None:
    """The console script."""
    if instruction := os.environ.get("_SLIPWAY_COMPLETE"):  # the shell asks for completions
        sys.exit(shell_complete(slipway, {}, "slipway", "_SLIPWAY_COMPLETE", instruction))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a Latin-1 terminal gets `?`, not a traceback
    sys.exit(run(sys.argv[1:]))
