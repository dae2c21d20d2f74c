"""The lab's command line: up, down, status, logs, exec, restart, define, build; `slipway lab …` starts it.

    python -m slipway_lab up --reuse
    python -m slipway_lab exec -- kubectl get nodes
    python -m slipway_lab down

Results go to stdout, words to stderr. Under `--json` stdout has one object: the result, or `{"error": …}`. The exit
status is 0, or the error's; `exec` has the command's.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click
import msgspec

from slipway_lab import kubectl, network, processes, state
from slipway_lab.errors import LabError, NotRunningError
from slipway_lab.state import Place

INTERRUPTED: Final = 130
NAME = click.option("--name", default=state.DEFAULT_NAME, show_default=True, help="Of the lab.")


@click.group(help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def lab(context: click.Context, *, as_json: bool) -> None:
    """The root."""
    context.obj = as_json


@lab.command()
@NAME
@click.option("--reuse", is_flag=True, help="A healthy lab of this name is taken as it is.")
@click.pass_obj
def up(as_json: bool, *, name: str, reuse: bool) -> None:  # noqa: FBT001 - click's order
    """Start a lab; prints its kubeconfig."""
    from slipway_lab import cluster

    found = cluster.up(_place(name), _say, reuse=reuse)
    _result(as_json, found, found.kubeconfig)


@lab.command()
@NAME
@click.pass_obj
def down(as_json: bool, *, name: str) -> None:  # noqa: FBT001 - click's order
    """End a lab and remove all that it made; also what a crash left."""
    from slipway_lab import cluster

    was_there = cluster.down(_place(name), _say)
    if not was_there:
        _say(f"no lab {name!r} is there")
    _result(as_json, {"name": name, "was_there": was_there})


@lab.command()
@NAME
@click.pass_obj
def status(as_json: bool, *, name: str) -> None:  # noqa: FBT001 - click's order
    """How a lab is: its state, its programs and their memory."""
    from slipway_lab import cluster

    place = _place(name)
    found = cluster.status(place)
    if found is None:
        raise NotRunningError(f"no lab {name!r} is running", hint="`slipway lab up`")
    lines = [f"{name}: {found.state}, {found.resident_bytes / 1e6:.0f} MB, {found.containers} processes in pods"]
    for program in found.programs:
        how = f"{program.resident_bytes / 1e6:5.0f} MB" if program.is_alive else "    dead"
        lines.append(f"  {program.name:<24} {program.pid:>7} {how}")
    dead = [program.name for program in found.programs if not program.is_alive]
    lines += [f"the log of {one} ends with:\n{processes.tail(place, one)}" for one in dead]
    _result(as_json, found, "\n".join(lines))


@lab.command()
@NAME
@click.option("--lines", "-n", default=50, show_default=True, type=click.IntRange(1), help="From the end.")
@click.argument("program")
@click.pass_obj
def logs(as_json: bool, *, name: str, lines: int, program: str) -> None:  # noqa: FBT001 - click's order
    """The end of a program's log; PROGRAM as `status` says it."""
    place = _place(name)
    if not (place.logs / f"{program}.log").is_file():
        known = ", ".join(sorted(path.stem for path in place.logs.glob("*.log"))) or "none"
        raise NotRunningError(f"lab {name!r} has no log of {program!r}, expected one of: {known}")
    text = processes.tail(place, program, lines)
    _result(as_json, {"program": program, "lines": text.splitlines()}, text)


@lab.command()
@NAME
@click.option("--kill", is_flag=True, help="End it at once, as a crash would.")
@click.argument("program")
@click.pass_obj
def restart(as_json: bool, *, name: str, kill: bool, program: str) -> None:  # noqa: FBT001 - click's order
    """End a program and start it again as it was; PROGRAM as `status` says it."""
    from slipway_lab import cluster

    process = cluster.restart(_place(name), program, kill=kill)
    _result(as_json, {"program": program, "pid": process.pid}, str(process.pid))


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@NAME
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(*, name: str, command: tuple[str, ...]) -> NoReturn:
    """Run COMMAND inside the lab's network, with its names, kubectl on the PATH and KUBECONFIG set."""
    place = _place(name)
    found = state.load(place)
    environ = {
        **os.environ,
        **kubectl.environment(place),
        **processes.environment(place.programs),
        "SLIPWAY_LAB": found.name,
        "CONTAINERD_ADDRESS": str(place.folder / "node/run/containerd/containerd.sock"),
    }
    inside = ("nsenter", f"--net={place.namespace}", "--", *network.resolving(place.resolv, command))
    os.execvpe(inside[0], inside, environ)  # noqa: S606 - no shell is wanted


@lab.command()
@NAME
@click.argument("sources", nargs=-1)
@click.pass_obj
def define(as_json: bool, *, name: str, sources: tuple[str, ...]) -> None:  # noqa: FBT001 - click's order
    """Let a running lab know the kinds of objects of SOURCES (all): definitions only, nobody acts on them."""
    from slipway_lab import cluster
    from slipway_lab.crds import SOURCES

    files = cluster.define(_place(name), sources or tuple(SOURCES), _say)
    _result(as_json, {"name": name, "files": [str(path) for path in files]})


@lab.command()
@click.option("--clean", is_flag=True, help="Remove Go's build cache and programs of other versions instead.")
@click.pass_obj
def build(as_json: bool, *, clean: bool) -> None:  # noqa: FBT001 - click's order
    """Build the programs that the cache lacks; minutes the first time."""
    from slipway_lab import build as builder
    from slipway_lab.programs import PROGRAMS
    from slipway_lab.workshop import find_workshop

    if clean:
        freed = builder.clean(find_workshop())
        _result(as_json, {"freed_bytes": freed}, f"{freed / 1e9:.1f} GB freed")
        return
    built = builder.build_all(PROGRAMS, _say)
    _result(as_json, {name: str(path) for name, path in built.items()}, "\n".join(map(str, built.values())))


@lab.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def conform(as_json: bool, *, paths: tuple[Path, ...]) -> None:  # noqa: FBT001 - click's order
    """Ask whether every supported Kubernetes takes the manifests in PATHS; exit status 1 if not. Needs no lab."""
    from slipway_lab.conform import conform as ask

    report = ask(paths, say=_say)
    versions = ", ".join(report.kubernetes)
    lines = [str(finding) for finding in report.findings]
    _result(as_json, report, "\n".join([*lines, f"{report.objects} objects judged by Kubernetes {versions}"]))
    if report.findings:
        raise click.exceptions.Exit(1)


def main(arguments: Sequence[str]) -> int:
    """Runs one command line; its exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status: object = lab.main(list(arguments), standalone_mode=False)
    except LabError as error:
        _tell(error, as_json="--json" in arguments)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return INTERRUPTED
    return status if isinstance(status, int) else 0  # what `Exit` was raised with


def _place(name: str) -> Place:
    return state.place_of(state.lab_home(os.environ), name)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _result(as_json: bool, value: object, text: str = "") -> None:  # noqa: FBT001 - what click handed on
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value)))
    elif text:
        click.echo(text)


def _tell(error: LabError, *, as_json: bool) -> None:
    if as_json:
        click.echo(error.as_line().decode(), nl=False)
    else:
        click.echo(f"error: {error}", err=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
