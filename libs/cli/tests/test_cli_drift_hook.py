"""`slipway drift hook`: a process that hears Alertmanager, told how by flags, a file and the environment."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cli_commands import Slipway
from event_sink import alert, event_sink, webhook

JSON = {"content-type": "application/json"}
SECRET = "s3cret-t0ken"


@contextmanager
def hook(*arguments: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The process and its address; it is stopped, and must have ended cleanly."""
    command = [sys.executable, "-P", "-m", "slipway_cli", "drift", "hook", "--listen", "127.0.0.1:0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()


def test_it_prints_its_address_sends_with_the_token_and_ends_when_told(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    with (
        event_sink(202, 403) as sink,
        hook("--to", sink.url, "--sustained", "0", "--token-file", str(token)) as (process, url),
    ):
        first = httpx.post(url, content=webhook(alert()), headers=JSON, timeout=30)
        token.write_text("renewed")
        second = httpx.post(url, content=webhook(alert(labels={"model": "b"})), headers=JSON, timeout=30)
        process.terminate()
        out, log = process.communicate(timeout=30)

    assert (first.status_code, second.status_code, process.returncode) == (200, 502, 0)
    assert [headers["Authorization"] for headers, _ in sink.taken] == [f"Bearer {SECRET}", "Bearer renewed"]
    assert "drift_event_sent" in log
    assert "drift_event_unsent" in log
    for secret in (SECRET, "renewed", "token=secret"):
        assert secret not in log + out + second.text


def test_the_url_and_the_token_may_stand_in_the_environment() -> None:
    with event_sink() as sink:
        environment = {"SLIPWAY_HOOK_TO": sink.url, "SLIPWAY_HOOK_TOKEN": SECRET}
        with hook("--sustained", "0", **environment) as (_, url):
            httpx.post(url, content=webhook(alert()), headers=JSON, timeout=30).raise_for_status()

    assert [headers["Authorization"] for headers, _ in sink.taken] == [f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--to", "ftp://elsewhere/x?token=secret"], 2, "expected an http or https URL"),
        (["--to", "http://x", "--listen", "9098"], 2, "expected HOST:PORT"),
        (["--to", "http://x", "--listen", "127.0.0.1:99999"], 2, "expected HOST:PORT"),
        (["--to", "http://x", "--sustained", "soon"], 2, "'soon', expected a number and s, m, h, d or w"),
        (["--to", "http://x", "--token-file", "/nowhere/token"], 3, "'/nowhere/token' cannot be read"),
        (["--to", "http://x", "--listen", "192.0.2.1:0"], 3, "cannot listen on 192.0.2.1:0"),
    ],
)
def test_what_is_wrong_is_told_before_it_listens(
    slipway: Slipway, arguments: list[str], status: int, said: str
) -> None:
    told = slipway("drift", "hook", *arguments)

    assert told.status == status
    assert said in told.err
    assert "secret" not in told.err
