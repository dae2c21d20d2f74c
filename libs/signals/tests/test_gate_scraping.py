"""What an arm's admin port shows, and what it does not."""

import pytest
from gate_windows import Arms, gate_plan
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from slipway_signals.gate.judging import Judge
from slipway_signals.gate.records import ARMS, Arm, Scrape, Window, encode_window
from slipway_signals.gate.scraping import ArmScrapes, scrape_of
from slipway_signals.gate.verdict import Decision

PAGE = """# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_count{http_route="/predict"} 10
http_server_request_duration_seconds_count{http_route="/livez"} 2
slipway_synthetic_requests_total 30
http_server_active_requests 4
slipway_process_cpu_seconds_total{process="worker-0"} 1.5
slipway_process_cpu_seconds_total{process="supervisor"} 0.5
slipway_process_cpu_wait_seconds_total{process="worker-0"} 0.25
slipway_device_utilisation_ratio{device="gpu:0"} 0.2
slipway_device_utilisation_ratio{device="gpu:1"} 0.9
slipway_cost_usd_per_hour 3.6
"""
DATE = "Sun, 22 Nov 2026 07:00:10 GMT"
AT = 1_795_330_810.0


def test_series_are_added_up_and_the_busiest_device_counts() -> None:
    """Users' requests and synthetic ones are both requests."""
    found = scrape_of(PAGE, date=DATE, now=AT)

    assert found.ok
    assert (found.cpu_s, found.requests, found.in_flight, found.gpu_utilisation) == (2.0, 42.0, 4.0, 0.9)
    assert found.cpu_wait_s == 0.25
    assert found.skew_s == pytest.approx(0.5)


def test_cost_grows_with_time() -> None:
    """A tenth of a cent a second, whatever the zero is."""
    early, late = (scrape_of(PAGE, date=None, now=AT + seconds).cost_usd for seconds in (0.0, 10.0))

    assert early is not None
    assert late is not None
    assert late - early == pytest.approx(0.01, rel=1e-4)


def test_a_series_that_is_not_there_is_not_zero() -> None:
    """Nor is one that is NaN."""
    found = scrape_of("http_server_active_requests NaN\nslipway_queue_depth 3\n", date=None, now=AT)

    assert (found.in_flight, found.queue_rows, found.cpu_s, found.requests) == (None, 3.0, None, None)
    assert found.skew_s is None


@pytest.mark.parametrize("page", ["", "<html>", "a{b 1", "slipway_queue_depth NaN"])
def test_a_page_without_series_says_why(page: str) -> None:
    """It is a scrape that failed, and no exception."""
    found = scrape_of(page, date="yesterday", now=AT)

    assert not found.ok
    assert found.problem


def told(requests: float, cpu_s: float = 0.0) -> Scrape:
    """A page of a process."""
    return Scrape(ok=True, requests=requests, cpu_s=cpu_s, in_flight=requests)


def handed_on(*pages: tuple[str | None, Scrape]) -> list[float | None]:
    """Requests of the arm after each of these answered."""
    arm = ArmScrapes()
    return [arm.add(page, instance).requests for instance, page in pages]


@pytest.mark.parametrize("instance", ["a", None])
def test_scrapes_of_one_process_stay_as_they_are(instance: str | None) -> None:
    """To the byte, in a window too; a server that does not say who it is may be started again."""
    arm = ArmScrapes()
    given = [told(7.1, 3.3), Scrape(ok=False, problem="no answer"), told(9.2, 4.4), told(0.5, 0.1)]

    found = [arm.add(one, instance) for one in given]

    window = Window(index=0, begin_s=0.0, end_s=1.0, arms={}, scrapes={"stable": found[-1]})
    assert found == given
    assert b"processes" not in encode_window(window)


def test_of_several_processes_a_counter_is_what_was_seen_to_grow() -> None:
    """The first page of each adds nothing; a gauge is of who answered."""
    arm = ArmScrapes()
    arm.add(told(1_000.0), "a")
    arm.add(told(10.0), "b")
    arm.add(told(1_005.0), "a")

    found = arm.add(told(14.0), "b")

    assert (found.requests, found.in_flight, found.processes) == (1_009.0, 14.0, 2)


def test_a_process_that_was_started_again_adds_nothing_until_its_second_page() -> None:
    """Whether it says so by another name, or by counters that fell; a page that could not be read is no page."""
    renamed = handed_on(("a", told(100.0)), ("a2", told(3.0)), ("a2", told(5.0)))
    fell = handed_on(("a", told(100.0)), ("", told(50.0)), ("", told(3.0)), ("", told(5.0)))
    failed = handed_on(("a", told(100.0)), ("b", told(3.0)), ("b", Scrape(ok=False)), ("b", told(4.0)))

    assert renamed == [100.0, 100.0, 102.0]
    assert fell == [100.0, 100.0, 100.0, 102.0]
    assert failed == [100.0, 100.0, None, 101.0]


def test_what_a_process_used_without_a_request_waits_for_one_that_was_answered() -> None:
    """Else a few milliseconds would be divided by what all processes answered; nothing is lost."""
    arm = ArmScrapes()
    pages = [("a", told(10, 1.0)), ("b", told(10, 1.0)), ("b", told(10, 1.5)), ("a", told(14, 3.0))]

    found = [arm.add(page, who) for who, page in pages]

    assert [(one.requests, one.cpu_s) for one in found] == [(10, 1.0), (10, 1.0), (10, 1.0), (14, 3.5)]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 50)), min_size=1))
def test_whoever_answers_and_whenever_the_cost_of_a_request_is_what_it_is(asked: list[tuple[str, int]]) -> None:
    """Each process has a past of its own, in which requests cost something else."""
    arm = ArmScrapes()
    pages = {who: told(1_000.0 * place, 77.0 * place) for place, who in enumerate("abcd")}
    first = last = arm.add(pages["a"], "a")
    for who, more in asked:
        pages[who] = told((pages[who].requests or 0.0) + more, (pages[who].cpu_s or 0.0) + more / 4)
        last = arm.add(pages[who], who)

    assert first.requests is not None
    assert first.cpu_s is not None
    assert last.requests is not None
    assert last.cpu_s == pytest.approx(first.cpu_s + (last.requests - first.requests) / 4)
    assert last.requests - first.requests <= sum(more for _, more in asked)


def of_pods(*, is_told_apart: bool) -> Decision:
    """A run of equal arms; of stable two processes answer in turn, of which one has a long and contended past."""
    pasts = ({"cpu_s": 0.0, "cpu_wait_s": 0.0, "requests": 0.0}, {"cpu_s": 90.0, "cpu_wait_s": 80.0, "requests": 9e3})
    scrapes: dict[Arm, ArmScrapes] = {arm: ArmScrapes() for arm in ARMS}
    judge = Judge(gate_plan(stops_on_pass=False, at_least_s=1.0), None)
    for window in Arms(3).windows(61):
        pod = (window.index + 1) % 2  # the first that counts and the last are of two
        own = window.scrapes["stable"]
        page = replace(own, **{field: getattr(own, field) / 2 + more for field, more in pasts[pod].items()})
        found = scrapes["stable"].add(page, str(pod)) if is_told_apart else page
        judge.add(replace(window, scrapes={**window.scrapes, "stable": found}))
    return judge.decision()


def test_two_processes_behind_one_address_are_no_difference_between_the_arms() -> None:
    """Their pages compared as if they were one's are: nothing that is said of the processor is true then."""
    apart, mixed = (of_pods(is_told_apart=known) for known in (True, False))

    (cpu,) = (one for one in apart.metrics if one.metric == "cpu")
    (wrong,) = (one for one in mixed.metrics if one.metric == "cpu")
    assert cpu.estimate == pytest.approx(1.0, rel=0.05)
    assert "cpu_contended" not in {finding.code for finding in apart.findings}
    assert wrong.estimate != pytest.approx(1.0, rel=0.05)
    assert "cpu_contended" in {finding.code for finding in mixed.findings}
