"""This hour beside the same hour of last week, and what only a cluster can say of a pod.

An hour takes 30 s, so that a week takes 84 minutes: last week is not lived through but found in Prometheus' store,
written there by promtool. This hour is real traffic. kube-state-metrics, cAdvisor and DCGM cannot run here: what they
would say is a page of text.
"""

import time
from collections.abc import Iterator

import pytest
from alert_faults import Story, StoryStack, address_of, environment_of, moody_slos, row, traffic, wish, write_moody
from alert_stack import metrics_page
from serve_process import serving

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool")]

SCALE = 120
WEEK_S = 604_800 / SCALE
USUAL_PER_S = 20.0
RUNTIME = "[runtime.cost]\nusd_per_hour = 1.0\n"
POD = 'namespace="prod",pod="moody-1",container="moody"'
CLUSTER = f"""\
kube_pod_container_status_restarts_total{{{POD}}} %d
container_memory_working_set_bytes{{{POD}}} %d
kube_pod_container_resource_limits{{{POD},resource="memory"}} 1000
DCGM_FI_DEV_FB_USED{{{POD},gpu="0",Hostname="n1"}} %d
DCGM_FI_DEV_FB_FREE{{{POD},gpu="0",Hostname="n1"}} %d
"""
PLATFORM = ["SlipwayPodRestarts", "SlipwayMemoryNearLimit", "SlipwayGpuMemoryFull"]
QUIET = ["SlipwayTrafficAnomaly", "SlipwayCostRising"]
ERRORS = ["SlipwaySLOAnomaly/moody-availability"]


def last_week(now: float) -> str:
    """What was recorded at this hour a week ago: so many requests, one bad in a thousand, a dollar an hour."""
    times = [now - WEEK_S - 60 + 2 * place for place in range(400)]
    constant = {
        'slipway:slo_total:rate1h{slo="moody-availability",service="moody"}': USUAL_PER_S,
        'slipway:slo_errors:ratio_rate1h{slo="moody-availability",service="moody"}': 0.001,
        'slipway_cost_usd_per_hour{service="moody",instance="old"}': 1.0,
    }
    lines = [f"{name} {value} {at:.3f}" for name, value in constant.items() for at in times]
    rows = 'slipway_inferences_total{service="moody",instance="old",model="moody",result="ok"}'
    lines += [f"{rows} {USUAL_PER_S * (at - times[0]):.1f} {at:.3f}" for at in times]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("unusual")
    moody = write_moody(folder / "moody", RUNTIME)
    with (
        metrics_page(CLUSTER % (0, 500, 500, 500)) as cluster,
        serving(moody, store=folder / "store", env=environment_of(moody)) as served,
        traffic(served.url, lambda n: row() if n % 2 else wish("fine"), rate=2 * USUAL_PER_S, clients=8) as callers,
    ):
        targets = {"moody": [address_of(served.admin)], "cluster": [cluster.address]}
        history = last_week(time.time())
        with StoryStack(folder / "stack", [moody_slos()], targets, scale=SCALE, history=history) as stack:
            story = Story(stack)
            stack.until('increase(http_server_request_duration_seconds_count{service="moody"}[30s]) > 500')

            def begin() -> None:
                cluster.text = CLUSTER % (3, 950, 980, 20)
                callers.ask = lambda n: row() if n % 2 else wish("error" if n % 50 == 0 else "fine")

            story.fault([*PLATFORM, *ERRORS], begin)
            cluster.text = CLUSTER % (3, 500, 500, 500)
            callers.ask = lambda n: row() if n % 2 else wish("fine")
            story.fault(QUIET, lambda: setattr(callers, "rate", 0.2 * USUAL_PER_S), timeout_s=120)
            callers.rate = 3 * USUAL_PER_S
            yield story


@pytest.mark.parametrize("name", PLATFORM)
def test_what_a_cluster_says_of_a_pod_is_a_ticket_for_its_service(story: Story, name: str) -> None:
    fired = story.check(name, "ticket")

    assert fired["labels"]["service"] == "moody"


@pytest.mark.parametrize("name", [*ERRORS, *QUIET])
def test_an_hour_unlike_that_of_last_week_is_a_ticket(story: Story, name: str) -> None:
    fired = story.check(name, "ticket")

    assert fired["labels"]["service"] == "moody"
