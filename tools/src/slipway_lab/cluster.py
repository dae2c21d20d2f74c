"""A lab, started and stopped: the order of things, and what is left afterwards, which is nothing.

`up` starts everything beside everything else that does not need it, and returns when the node is Ready and every
program answers. `down` needs no memory of what was started: the lab's control group tells. The invariants: an `up` that
fails or is interrupted has removed all that it made but its logs; nothing outside the lab's own names is touched.
"""

import datetime as dt
import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from slipway_lab import addons, cgroups, control_plane, images, kubectl, monitoring, network, node, processes, system
from slipway_lab.build import build_all
from slipway_lab.crds import crd_files
from slipway_lab.errors import CommandError, NotRunningError, RunningError
from slipway_lab.processes import Process, Programs, Recipe
from slipway_lab.programs import PROGRAMS
from slipway_lab.state import Lab, Place, load, save

READY_S: Final = 180.0
"""For each program: they take seconds, but a machine may be busy with other work."""
BUSY_S: Final = 2400.0
"""For another `up` of the same lab, which may be building its programs."""

ACTED_ON: Final = ("rollouts", "traefik")
"""Whose objects something in the lab acts on."""

Say = Callable[[str], None]


class ProgramStatus(Struct, frozen=True, kw_only=True):
    """One process of a lab."""

    name: str
    pid: int
    is_alive: bool
    resident_bytes: int


class Status(Struct, frozen=True, kw_only=True):
    """A lab, as it is now."""

    name: str

    state: str
    """`ready`; `broken`: something of it runs and something does not; `left`: nothing runs, something was left."""

    programs: tuple[ProgramStatus, ...]

    containers: int
    """Processes in pods."""

    resident_bytes: int
    """Of the lab's own processes, those that hold containers included; without pods."""

    lab: Lab | None = None


def up(place: Place, say: Say, *, reuse: bool = False) -> Lab:
    """Start a lab.

    Args:
        place: Whose.
        say: Told a line when a step is done.
        reuse: A healthy lab of this name is returned instead; one that is broken is replaced.

    Raises:
        RunningError: There is one already.
        CannotRunError: This machine cannot run one.
        LabError: Something failed; everything but the logs was removed.
    """
    system.check()
    with _locked(place, BUSY_S if reuse else 0.0, say):
        found = status(place)
        if found is not None and found.state == "ready" and found.lab is not None and reuse:
            say(f"lab {place.name!r} runs already")
            return found.lab
        if found is not None and found.state != "left" and not reuse:
            raise RunningError(
                f"lab {place.name!r} is running already, in {str(place.folder)!r} ({found.state})",
                hint="`slipway lab up --reuse` takes it as it is, `slipway lab down` ends it, `--name` starts another",
            )
        programs = build_all([name for name, program in PROGRAMS.items() if program.kind != "check"], say)
        definitions = crd_files(ACTED_ON)
        if found is not None:
            _remove(place)
        try:
            return _Start(place, programs, say).run(definitions)
        except BaseException:
            _remove(place, keep_logs=True)
            raise


def down(place: Place, say: Say) -> bool:
    """End a lab and remove all that it made; whether there was anything. Safe after a crash.

    Raises:
        LabError: Something could not be removed.
    """
    with _locked(place, 60.0, say):
        if not is_there(place):
            return False
        killed = _remove(place)
        say(f"lab {place.name!r} is gone, {killed} processes with it")
        return True


def status(place: Place) -> Status | None:
    """How a lab is; None where there is none, and nothing of one."""
    if not is_there(place):
        return None
    own = cgroups.processes(place.cgroup, cgroups.SYSTEM)
    pods = cgroups.processes(place.cgroup, "kubepods")
    programs = tuple(_status(process) for process in processes.recorded(place))
    lab = None
    with suppress(NotRunningError):
        lab = load(place)
    state = "left"
    if own or pods:
        is_whole = lab is not None and all(program.is_alive for program in programs) and _is_api_ready(place)
        state = "ready" if is_whole else "broken"
    memory = sum(processes.resident_bytes(pid) for pid in own)
    return Status(name=place.name, state=state, programs=programs, containers=len(pods), resident_bytes=memory, lab=lab)


def restart(place: Place, name: str, *, kill: bool = False) -> Process:
    """End a program of a running lab and start it again as it was; it may not be ready when this returns.

    Args:
        place: Whose.
        name: As `status` says it.
        kill: At once, as a crash would.

    Raises:
        NotRunningError: There is no such lab, or no such program in it.
        StartError: It did not end.
    """
    load(place)
    recipe = processes.find(place, name).recipe
    processes.stop(place, name, kill=kill)
    with network.entered(place):
        return processes.start(place, recipe)


def define(place: Place, sources: Sequence[str], say: Say) -> tuple[Path, ...]:
    """Apply the definitions of `sources` (`crds.SOURCES`) to a running lab; the files that were applied.

    All of them together cost the API server about half a gigabyte, so `up` applies only those that something acts on.

    Raises:
        NotRunningError: There is no such lab.
        LabError: There is no such source, or the API server refused.
    """
    load(place)
    programs = build_all(("kubectl",), say)
    files = crd_files(sources)
    with network.entered(place):
        kubectl.finish(kubectl.begin_apply(place, programs, files), f"the definitions of {', '.join(sources)}")
        kubectl.await_established(place, programs)
    return files


def is_there(place: Place) -> bool:
    """Whether anything of a lab of this name is on this machine."""
    return place.folder.exists() or cgroups.exists(place.cgroup)


class _Start:
    """One `up`: what was started so far, and since when."""

    def __init__(self, place: Place, programs: Programs, say: Say) -> None:
        self._place = place
        self._programs = programs
        self._say = say
        self._began = time.monotonic()

    def run(self, definitions: tuple[Path, ...]) -> Lab:
        """In the order in which one thing needs another."""
        place, programs = self._place, self._programs
        place.programs.mkdir(parents=True, exist_ok=True)
        for name in ("kubectl", "ctr"):
            (place.programs / name).symlink_to(programs[name])
        cgroups.create(place.cgroup)
        network.create(place)
        self._done("network namespace")
        with network.entered(place):
            trust = control_plane.make_trust(place, dt.datetime.now(dt.UTC))
            etcd = self._start(control_plane.etcd(place, programs))
            holder = self._start(node.holder(place))
            registry = self._start(images.registry(place))
            self._ready(etcd, control_plane.is_etcd_ready)
            apiserver = self._start(control_plane.apiserver(programs, trust))
            self._ready(holder, lambda: node.is_held(place))
            containerd = self._start(node.containerd(place, programs))
            self._ready(registry, images.is_registry_ready)
            self._ready(containerd, lambda: node.is_containerd_ready(place))
            self._import_pause()
            self._ready(apiserver, lambda: control_plane.is_api_ready(place))
            self._start(control_plane.controller_manager(place, programs, trust))
            self._start(control_plane.scheduler(place, programs))
            kubelet = self._start(node.kubelet(place, programs, trust))
            applied = kubectl.begin_apply(place, programs, definitions)
            try:
                proxy = self._start(node.proxy(place, programs))
                kubectl.apply(place, programs, addons.objects(), "the lab's services")
                self._done("services")
                self._add_ons(proxy)
            finally:
                kubectl.finish(applied, "the definitions of the add-ons")
                kubectl.await_established(place, programs)
            self._done("definitions")
            traefik = self._start(addons.traefik(place, programs))
            rollouts = self._start(addons.rollouts(place, programs))
            self._ready(kubelet, node.is_kubelet_ready)
            self._ready(traefik, addons.is_traefik_ready)
            self._ready(rollouts, addons.is_rollouts_ready)
            self._ready(kubelet, self._is_node_ready, "node")
        return self._finish()

    def _add_ons(self, proxy: Process) -> None:
        place, programs = self._place, self._programs
        coredns = self._start(addons.coredns(place, programs))
        metrics = self._start(addons.metrics_server(place, programs))
        alertmanager = self._start(monitoring.alertmanager(place))
        prometheus = self._start(monitoring.prometheus(place, programs))
        self._ready(proxy, node.is_proxy_ready)
        self._ready(coredns, addons.is_coredns_ready)
        self._ready(metrics, addons.is_metrics_server_alive)
        self._ready(alertmanager, lambda: monitoring.is_ready(monitoring.ALERTMANAGER_PORT))
        self._ready(prometheus, lambda: monitoring.is_ready(monitoring.PROMETHEUS_PORT))

    def _start(self, recipe: Recipe) -> Process:
        return processes.start(self._place, recipe)

    def _ready(self, process: Process, is_ready: Callable[[], bool], what: str = "") -> None:
        processes.await_ready(self._place, process, is_ready, READY_S)
        self._done(what or process.recipe.name)

    def _done(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:5.1f} s  {what}")

    def _import_pause(self) -> None:
        file = self._place.folder / "pause.tar"
        images.write_pause(file, self._programs["pause"], os.uname().machine)
        command = images.import_command(self._programs, file)
        holder = processes.find(self._place, processes.HOLDER)
        inside = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--", *command)
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=READY_S)
        if done.returncode:
            raise CommandError(f"the pause image was not imported: {done.stderr.strip() or done.stdout.strip()}")

    def _is_node_ready(self) -> bool:
        """Ready, and pods may be made: they need a service account."""
        found = kubectl.get(self._place, f"/api/v1/nodes/{self._place.node}")
        account = kubectl.get(self._place, "/api/v1/namespaces/default/serviceaccounts/default")
        return kubectl.has_condition(found, "Ready") and account is not None

    def _finish(self) -> Lab:
        place, seconds = self._place, time.monotonic() - self._began
        lab = Lab(
            name=place.name,
            folder=str(place.folder),
            kubeconfig=str(place.kubeconfig),
            namespace=place.name,
            node=place.node,
            registry=node.REGISTRY,
            ingress=f"http://{network.NODE}:{addons.INGRESS_PORT}",
            prometheus=f"http://{network.NODE}:{monitoring.PROMETHEUS_PORT}",
            alertmanager=f"http://{network.NODE}:{monitoring.ALERTMANAGER_PORT}",
            rules=str(monitoring.rules_folder(place)),
            seconds=round(seconds, 2),
        )
        save(place, lab)
        return lab


def _remove(place: Place, *, keep_logs: bool = False) -> int:
    """Everything that belongs to the name; how many processes were killed.

    Mounts and pods' network namespaces end with the last process that lives in the node's mount namespace.
    """
    place.file.unlink(missing_ok=True)
    killed = cgroups.remove(place.cgroup)
    network.remove(place)
    for process in processes.recorded(place):
        processes.is_alive(process)  # buries it, if it was a child of ours
    for path in place.folder.glob("*"):
        if keep_logs and path == place.logs:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not keep_logs:
        with suppress(FileNotFoundError):
            place.folder.rmdir()
    return killed


def _status(process: Process) -> ProgramStatus:
    is_alive = processes.is_alive(process)
    memory = processes.resident_bytes(process.pid) if is_alive else 0
    return ProgramStatus(name=process.recipe.name, pid=process.pid, is_alive=is_alive, resident_bytes=memory)


def _is_api_ready(place: Place) -> bool:
    with suppress(OSError), network.entered(place):
        return control_plane.is_api_ready(place)
    return False


@contextmanager
def _locked(place: Place, wait_s: float, say: Say) -> Iterator[None]:
    """Nobody else starts or stops this lab meanwhile. Raises RunningError: somebody does."""
    place.home.mkdir(parents=True, exist_ok=True)
    ends, news, has_said = time.monotonic() + wait_s, threading.Event(), False
    with place.lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise RunningError(
                        f"another process starts or stops lab {place.name!r} right now",
                        hint="wait for it, then try again",
                    ) from None
                if not has_said:
                    say(f"waits: another process starts or stops lab {place.name!r}")
                has_said = True
                news.wait(0.2)
        yield
