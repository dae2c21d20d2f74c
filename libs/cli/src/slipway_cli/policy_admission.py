"""`slipway policy admission`: the Kubernetes objects that make a cluster ask the webhook."""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Print what makes Kubernetes ask the webhook.",
    help="Print a ValidatingWebhookConfiguration that asks `slipway policy webhook` before a pod runs, and a "
    "ValidatingAdmissionPolicy with its binding that refuses images named by tag. Both look only at namespaces with "
    "the label slipway.io/policy=enforce. Nothing is applied.",
    examples=(
        ("slipway policy admission --ca ca.crt | kubectl apply -f -", "with a certificate of your own CA"),
        ("slipway policy admission --namespace platform", "cert-manager fills the CA in"),
    ),
)
@click.option("--service", default="slipway-policy", show_default=True, help="Kubernetes Service of the webhook.")
@click.option("--namespace", default="slipway-system", show_default=True, help="Where that Service is.")
@click.option("--port", type=click.IntRange(1, 65535), default=443, show_default=True, help="Of that Service.")
@click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Who signed the webhook's certificate, PEM.",
)
@click.pass_obj
def admission(terminal: Terminal, *, service: str, namespace: str, port: int, ca: Path | None) -> None:
    """Print them."""
    from slipway_serve.admission.manifests import AdmissionManifests, admission_manifests

    given = AdmissionManifests(
        service=service, namespace=namespace, port=port, ca=None if ca is None else ca.read_bytes()
    )
    text = admission_manifests(given)
    terminal.document({"manifests": text})
    terminal.result(text.rstrip("\n"))
