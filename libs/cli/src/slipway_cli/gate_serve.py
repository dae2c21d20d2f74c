"""`slipway gate serve`: keeps verdicts, and answers the rollouts that ask for them."""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(
    cls=Verb,
    name="serve",
    short_help="Keep verdicts; answer the rollouts that ask.",
    help="Take evidence by POST, judge it again, keep its verdict, and answer a rollout that asks for the verdict of a "
    "stage. What is not known, was judged too long ago, asked for less than --plan-policy wants, or is frozen, is "
    "inconclusive.\n\n"
    "Prints its address; runs until Ctrl-C or SIGTERM. Without --keys it listens to this machine only. Keys need the "
    "scope verdicts:write to post and verdicts:read to ask; the file of keys, the certificate and the policy are read "
    "again when they change. docs/verdicts.md has the addresses.",
    examples=(
        ("slipway gate serve", "to try it: plain HTTP, this machine only"),
        ("slipway gate serve --keys keys.json --tls-cert tls.crt --tls-key tls.key --host 0.0.0.0", "in a cluster"),
        ("slipway gate serve --signer release.pub", "evidence must be signed by this key"),
        ("slipway gate serve --plan-policy policy.toml", "a pass by wide margins counts for nothing"),
    ),
)
@click.option(
    "--store",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("verdicts.db"),
    show_default=True,
    help="Where verdicts are kept; made when it is not there.",
)
@click.option(
    "--keys",
    metavar="FILE",
    envvar="SLIPWAY_ACCESS_KEYS",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="API keys; `slipway access key new` makes one.  [$SLIPWAY_ACCESS_KEYS]",
)
@click.option("--signer", "signers", multiple=True, metavar="FILE", type=FILE, help="Public key; may be repeated.")
@click.option("--tls-cert", "certificate", metavar="FILE", type=FILE, help="Certificate, PEM, its issuers after it.")
@click.option("--tls-key", "key", metavar="FILE", type=FILE, help="Its private key, PEM.")
@click.option("--tls-client-ca", "client_ca", metavar="FILE", type=FILE, help="CA that clients' certificates are of.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8010, show_default=True, help="0 chooses a free one.")
@click.option(
    "--admin-host",
    envvar="SLIPWAY_ADMIN_HOST",
    default="127.0.0.1",
    show_default=True,
    help="Address of /metrics.  [$SLIPWAY_ADMIN_HOST]",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    envvar="SLIPWAY_ADMIN_PORT",
    default=8012,
    show_default=True,
    help="Port of /metrics; 0 chooses a free one.  [$SLIPWAY_ADMIN_PORT]",
)
@click.option("--plan-policy", metavar="FILE", type=FILE, help="The least that evidence must have asked for (TOML).")
@click.option("--max-age", default="1d", show_default=True, metavar="TIME", help="How long a verdict counts.")
@click.option("--keep", metavar="TIME", help="How long evidence is kept; verdicts always are.  [default: for ever]")
@click.option(
    "--max-body-mb", type=click.IntRange(1, 1_000), default=72, show_default=True, help="Size of evidence, at most."
)
@click.option("--max-store-mb", type=click.IntRange(1), help="Size of the store, at most.  [default: the disk's]")
@click.pass_obj
def serve_gate(
    terminal: Terminal,
    *,
    store: Path,
    keys: Path | None,
    signers: tuple[Path, ...],
    certificate: Path | None,
    key: Path | None,
    client_ca: Path | None,
    host: str,
    port: int,
    admin_host: str,
    admin_port: int,
    plan_policy: Path | None,
    max_age: str,
    keep: str | None,
    max_body_mb: int,
    max_store_mb: int | None,
) -> int:
    """Serve until told to stop."""
    if (certificate is None) != (key is None):
        missing = "--tls-key" if key is None else "--tls-cert"
        raise click.UsageError(f"{missing} is not given, expected certificate and private key together")
    if client_ca is not None and certificate is None:
        raise click.UsageError("--tls-client-ca is given without --tls-cert, expected both")
    from slipway_bundle.durations import parse_duration
    from slipway_bundle.trust.keys import load_key
    from slipway_serve.verdicts.app import VerdictOptions, serve_verdicts

    options = VerdictOptions(
        store=store,
        keys=keys,
        signers=tuple(map(load_key, signers)),
        certificate=certificate,
        key=key,
        client_ca=client_ca,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        plan_policy=plan_policy,
        max_age_s=parse_duration(max_age).total_seconds(),
        keep_s=None if keep is None else parse_duration(keep).total_seconds(),
        max_body_bytes=max_body_mb * 1_000_000,
        max_store_bytes=None if max_store_mb is None else max_store_mb * 1_000_000,
    )

    def announce(url: str, metrics: str) -> None:
        terminal.document({"url": url, "metrics": metrics})
        terminal.result(url)
        terminal.say(f"metrics at {metrics}")

    return serve_verdicts(options, announce)
