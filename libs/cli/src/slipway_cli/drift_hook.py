"""`slipway drift hook`: hear of drift from Alertmanager, and tell whatever starts a training.

Runs until SIGTERM or Ctrl-C; `slipway_signals.drift.hook` listens, decides and delivers.
"""

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

TOKEN: Final = "SLIPWAY_HOOK_TOKEN"  # noqa: S105  # the variable's name
LISTEN: Final = "127.0.0.1:9098"


@click.command(
    cls=Verb,
    name="hook",
    short_help="Start a training when drift has lasted.",
    help="Receive Alertmanager's webhooks, and POST one CloudEvent to a URL for each episode of drift of a model that "
    "has lasted. Prints the address that Alertmanager calls; runs until Ctrl-C or SIGTERM.\n\n"
    "Nothing is stored: what cannot be delivered is answered 502, and Alertmanager sends it again. An event may "
    "arrive twice after a restart, with the same id.\n\n"
    f"A bearer token for the receiver is read from --token-file, before each event, or from {TOKEN}. "
    "GET /healthz says how many events were sent. docs/drift.md has the event and Alertmanager's side.",
    examples=(
        ("slipway drift hook --to https://ci.example.com/hooks/retrain", "after an hour of drift"),
        ("slipway drift hook --to URL --sustained 1d --token-file /run/secrets/ci", "after a day, with a token"),
        ("slipway drift hook --to URL --listen 0.0.0.0:9098", "in a container"),
    ),
)
@click.option("--to", "url", required=True, envvar="SLIPWAY_HOOK_TO", metavar="URL", help="Where events are sent.")
@click.option("--listen", default=LISTEN, show_default=True, metavar="HOST:PORT", help="Port 0 takes a free one.")
@click.option(
    "--sustained", default="1h", show_default=True, metavar="TIME", help="How long alerts must have fired: 90s, 2h, 1d."
)
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="Holds the receiver's token.")
@click.pass_obj
def drift_hook(terminal: Terminal, *, url: str, listen: str, sustained: str, token_file: Path | None) -> None:
    """Listen until told to stop."""
    from slipway_signals.drift.hook import HookServer, RetrainingHook
    from slipway_signals.logs import configure_logging

    host, port = _address(listen)
    hook = RetrainingHook(url, sustained_s=_seconds(sustained), token=lambda: _token(token_file, os.environ))
    _token(token_file, os.environ)  # a file that is not there is told now, not when drift comes
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    log = configure_logging("drift-hook")
    try:
        server = HookServer(hook, host, port)
        terminal.document({"url": server.url})
        terminal.result(server.url)
        stop.wait()
        server.close()
    finally:
        log.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.UsageError(f"--listen is {text!r}, expected HOST:PORT, for example {LISTEN}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _seconds(text: str) -> int:
    from slipway_signals.slo.durations import parse_duration

    seconds = 0 if text == "0" else parse_duration(text)
    if seconds is None:
        raise click.UsageError(f"--sustained is {text!r}, expected a number and s, m, h, d or w, for example 2h")
    return seconds


def _token(file: Path | None, environment: Mapping[str, str]) -> str:
    from slipway_bundle.errors import FileError

    if file is None:
        return environment.get(TOKEN, "").strip()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise FileError(f"the token file {str(file)!r} cannot be read: {reason}", path=str(file)) from error
