"""What an arm's admin port shows, and what it does not."""

import pytest

from slipway_signals.gate.scraping import scrape_of

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
