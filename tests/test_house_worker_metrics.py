import os
import signal
import sys

from slipway_runtime.backoff import BackoffLimits
from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits, WorkerSpec
from slipway_runtime.supervisor import Supervisor
from slipway_signals.collector import MergedCollector, make_registry

KILLS = 20
WORKER = """
import os, sys
from slipway_runtime.control import WorkerControl, slot_fd_from_environment
from slipway_signals import Metric, Slots

hits = Slots.attach(slot_fd_from_environment(os.environ)).counter(Metric("hits_total", "counter", "Hits."))
control = WorkerControl.from_environment(os.environ)
pipe = int(sys.argv[1])
for number in range(50):
    hits.inc()
    os.write(pipe, b"x")
control.ready()
while not control.is_parent_gone():
    hits.inc()
    os.write(pipe, b"x")
"""


def test_metrics_merged_over_twenty_kills_never_decrease_and_lose_nothing() -> None:
    """The supervisor and the collector together: each worker says on a pipe what it has counted."""
    read, write = os.pipe()
    collector = MergedCollector()
    registry = make_registry(collector)
    limits = SupervisorLimits(backoff=BackoffLimits(first_s=0.001, ceiling_s=0.001, steady_s=1e6))
    seen: list[float] = []
    told = 0
    kills = 0

    def hear(event: SupervisorEvent) -> None:
        nonlocal kills, told
        seen.append(registry.get_sample_value("hits_total") or 0.0)
        told += len(os.read(read, 65_536)) if event.kind == "ready" else 0
        if event.kind == "ready" and kills < KILLS:
            kills += 1
            os.kill(event.pid or 0, signal.SIGKILL)
        elif event.kind == "ready":
            supervisor.stop()

    argv = (sys.executable, "-c", WORKER, str(write))
    spec = [WorkerSpec(name=f"api-{n}", argv=argv, env=dict(os.environ), pass_fds=(write,)) for n in range(2)]
    supervisor = Supervisor(spec, on_event=hear, limits=limits, slots=collector)
    supervisor.run()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told += len(pipe.read())
    total = registry.get_sample_value("hits_total") or 0.0

    assert kills == KILLS
    assert seen == sorted(seen)
    assert total >= 50 * KILLS
    assert told <= total <= told + KILLS + 2  # a death may fall between the count and its announcement
