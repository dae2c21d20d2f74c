"""`slipway policy webhook`: answers Kubernetes, which asks whether a pod's images may run."""

import os
from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

PEM = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(
    cls=Verb,
    short_help="Let policy.toml decide which pods a cluster runs.",
    help="Answer the reviews of a ValidatingWebhookConfiguration: each image of a pod must be named by digest and be a "
    "bundle that policy.toml allows, by its documents and referrers in its registry. Names that match "
    "`[admission] exempt` are not judged. What cannot be judged is refused.\n\n"
    "Prints its address; runs until Ctrl-C or SIGTERM. The policy and the certificate are read again when they change. "
    "`slipway policy admission` prints what makes Kubernetes ask.",
    examples=(
        ("slipway policy webhook --tls-cert tls.crt --tls-key tls.key --host 0.0.0.0", "in a cluster"),
        ("slipway policy webhook --port 0", "to try it: plain HTTP, a free port of this machine"),
    ),
)
@click.option(
    "--policy",
    "place",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=Path("policy.toml"),
    show_default=True,
    help="The rules.",
)
@click.option("--tls-cert", "certificate", metavar="FILE", type=PEM, help="Certificate, PEM, its issuers after it.")
@click.option("--tls-key", "key", metavar="FILE", type=PEM, help="Its private key, PEM.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8443, show_default=True, help="0 chooses a free one.")
@click.option(
    "--cache-s",
    type=click.FloatRange(0, 3600),
    default=60.0,
    show_default=True,
    help="How long a yes is believed, in seconds.",
)
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries on other machines.")
@click.pass_obj
def webhook(
    terminal: Terminal,
    *,
    place: Path,
    certificate: Path | None,
    key: Path | None,
    host: str,
    port: int,
    cache_s: float,
    insecure: bool,
) -> int:
    """Serve until told to stop."""
    if (certificate is None) != (key is None):
        missing = "--tls-key" if key is None else "--tls-cert"
        raise click.UsageError(f"{missing} is not given, expected certificate and private key together")
    from slipway_serve.admission.app import AdmissionOptions, serve_admission

    options = AdmissionOptions(
        policy=place, certificate=certificate, key=key, host=host, port=port, cache_s=cache_s, is_insecure=insecure
    )

    def announce(url: str) -> None:
        terminal.document({"url": url})
        terminal.result(url)

    return serve_admission(options, os.environ, announce)
