"""An API worker whose interpreter is held: nobody's request is read meanwhile, and no objective notices.

An hour takes 30 s, ten minutes 5 s.
"""

from collections.abc import Iterator

import pytest
from alert_faults import Story, StoryStack, address_of, environment_of, moody_slos, row, traffic, wish, write_moody
from serve_process import serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,  # a machine without a free processor holds everybody
    pytest.mark.needs("prometheus", "prometheus-alertmanager"),
]

HOLD = 5.0
ALERT = "SlipwayEventLoopHeld"
LATE = 'slipway:slo_errors:ratio_rate5m{slo="moody-latency"}'


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("held")
    moody = write_moody(folder / "moody")
    with (
        serving(moody, store=folder / "store", env=environment_of(moody)) as served,
        StoryStack(folder / "stack", [moody_slos()], {"moody": [address_of(served.admin)]}, scale=120) as stack,
        traffic(served.url, lambda _: wish("fine"), rate=60),
        traffic(served.url, lambda _: row(), rate=1, clients=1) as others,
    ):
        story = Story(stack)
        stack.until('sum(increase(slipway_event_loop_lag_seconds_count{service="moody"}[1m])) > 1')
        stack.until(f"{LATE} < 0.01")
        story.fault([ALERT], lambda: setattr(others, "ask", lambda _: row(HOLD)))
        others.ask = lambda _: row()
        yield story


def test_a_ticket_comes_while_the_interpreter_is_held_and_goes_with_it(story: Story) -> None:
    fired = story.check(ALERT, "ticket")

    assert fired["labels"]["service"] == "moody"
    assert not story.heard("SlipwaySLOFastBurn")
