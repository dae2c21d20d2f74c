"""A service whose answers fail or come late: pages while the budget burns, tickets when it is gone, then silence.

An hour takes half a minute. Day and night first: much traffic leaves a budget that the night cannot spend at once, and
few bad calls at night are outweighed by the next day. A day is no more than a busy machine can take: a scrape that is
late says that the service is down, and what resolves while somebody is woken for that is never told as resolved.
"""

from collections.abc import Iterator

import pytest
from alert_faults import Story, StoryStack, address_of, environment_of, moody_slos, traffic, wish, write_moody
from serve_process import serving

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

SLOS = ("moody-availability", "moody-latency")
PAGES = [f"{name}/{slo}" for name in ("SlipwaySLOBudgetEnding", "SlipwaySLOFastBurn") for slo in SLOS]
TICKETS = [f"{name}/{slo}" for name in ("SlipwaySLOSlowBurn", "SlipwaySLOBudgetSpent") for slo in SLOS]
DAY, NIGHT = 400, 25
"""Requests a second."""
OUTWEIGHED_S = 300
"""A spent budget is back when good calls outweigh the bad ones: as soon as this machine has made that many."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("objectives")
    moody = write_moody(folder / "moody")
    slos = [moody_slos("0.98", within_s="0.25")]
    with (
        serving(moody, store=folder / "store", env=environment_of(moody)) as served,
        StoryStack(folder / "stack", slos, {"moody": [address_of(served.admin)]}, scale=120) as stack,
        traffic(served.url, lambda _: wish("fine"), rate=DAY, clients=8) as callers,
    ):
        story = Story(stack)
        stack.until('sum(increase(http_server_request_duration_seconds_count{service="moody"}[1h])) > 4000')
        callers.rate = NIGHT
        stack.until(f'slipway:slo_total:rate1h{{slo="moody-availability"}} < {1.4 * NIGHT}', 90)

        story.silent([*PAGES, *TICKETS])
        callers.ask = some_are_bad
        story.hear(PAGES[:2])
        callers.ask = all_are_bad
        story.hear(PAGES[2:])
        callers.ask = lambda _: wish("fine")
        story.hear(TICKETS)  # as long as somebody is woken for the objective, they are kept back
        callers.rate = DAY
        for slo in SLOS:
            stack.until(f'slipway:slo_budget_remaining:ratio{{slo="{slo}"}} > 0.1', OUTWEIGHED_S)
        yield story


def some_are_bad(number: int) -> tuple[str, dict[str, object]]:
    return wish(("error", "slow", "fine", "fine")[number % 4])


def all_are_bad(number: int) -> tuple[str, dict[str, object]]:
    return wish(("error", "slow")[number % 2])


@pytest.mark.parametrize("name", PAGES)
def test_errors_and_late_answers_page_while_there_is_something_to_save(story: Story, name: str) -> None:
    assert story.check(name, "page")["labels"]["category"] in {"availability", "latency"}


@pytest.mark.parametrize("name", TICKETS)
def test_what_was_spent_is_a_ticket_once_nobody_is_woken_any_more(story: Story, name: str) -> None:
    assert story.check(name, "ticket")["labels"]["category"] in {"availability", "latency"}
