"""`slipway serve`: bundles or service folders, over HTTP, until stopped.

Flags win over `SLIPWAY_*`, which wins over `slipway.toml`; all of that is decided in `slipway_serve`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_serve.config import Setting


@click.command(
    cls=Verb,
    short_help="Serve bundles or service folders over HTTP.",
    help="Serve bundles or service folders over HTTP until Ctrl-C or SIGTERM, then drain.\n\n"
    "TARGET is a bundle's reference or a folder. Several targets are served under their names: /churn/predict.",
    examples=(
        ("slipway serve churn", "the only version of that bundle"),
        ("slipway serve services/churn --reload", "a folder, restarted when a file changes"),
        ("slipway serve churn --workers 4 --port 9000", "four processes, one address"),
        ("slipway serve churn --print-config", "every setting and where it came from"),
    ),
)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 chooses one.  [default: 8000]")
@click.option("--uds", metavar="PATH", help="Listen on a Unix socket instead.")
@click.option("--admin-host", help="Address of /metrics.  [default: 127.0.0.1]")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="Port of /metrics; 0 chooses one.  [default: 8002]")
@click.option("--workers", type=click.IntRange(1, 512), help="API worker processes.  [default: 1]")
@click.option("--grpc/--no-grpc", default=None, help="Answer the inference protocol over gRPC too.  [default: no]")
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Port of gRPC; 0 chooses one.  [default: 8001]")
@click.option("--drain-s", type=click.FloatRange(0), help="Seconds of taking requests after SIGTERM.  [default: 1]")
@click.option("--stop-s", type=click.FloatRange(0), help="Seconds to finish what was accepted.  [default: 30]")
@click.option("--tls-cert", metavar="FILE", help="Certificate (PEM) for HTTPS and gRPC; read again when it changes.")
@click.option("--tls-key", metavar="FILE", help="Its private key (PEM).")
@click.option("--tls-client-ca", metavar="FILE", help="Clients must show a certificate of this CA (mTLS).")
@click.option("--page/--no-page", default=None, help="Serve /, /docs and /openapi.json.  [default: page]")
@click.option("--reload", is_flag=True, help="Restart the workers when a file of a served folder changes.")
@click.option("--policy", metavar="FILE", help="What may be served.  [default: policy.toml here or above]")
@click.option("--print-config", is_flag=True, help="Print the settings with their origins, and stop.")
@click.pass_obj
def serve(
    terminal: Terminal,
    /,
    targets: tuple[str, ...],
    *,
    reload: bool,
    policy: str | None,
    print_config: bool,
    **flags: object,
) -> int:
    """Serve, or say what would be served."""
    from slipway_cli.home import policy_of, store_folder
    from slipway_serve.server import plan
    from slipway_serve.server import serve as run_server

    store = store_folder(os.environ)
    if print_config:
        _print(terminal, plan(targets, store=store, environment=os.environ, flags=flags).settings)
        return 0
    if reload and not any(Path(target).is_dir() for target in targets):
        raise click.UsageError("--reload watches folders, and no TARGET is one: a bundle never changes")
    return run_server(
        targets,
        store=store,
        environment=os.environ,
        flags=flags,
        reload=reload,
        policy=policy_of(policy, os.environ),
        say=terminal.say,
    )


def _print(terminal: Terminal, settings: "Sequence[Setting]") -> None:
    shown = {setting.key: {"value": setting.value, "origin": setting.origin} for setting in settings}
    terminal.document({"settings": shown})
    width = max(len(setting.key) + len(repr(setting.value)) for setting in settings) + 4
    for setting in settings:
        line = f"{setting.key} = {setting.value!r}"
        terminal.result(f"{line:<{width}}# {setting.origin}")
