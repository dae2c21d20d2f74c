"""How many requests a client may make: the bucket, the day, the headers; and one count for all processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_bundle import ConfigError
from slipway_serve.access.config import AccessConfig, ClientLimits
from slipway_serve.access.errors import QuotaFileError
from slipway_serve.access.limits import DAY_S, Limit, Usage
from slipway_serve.access.usage import UsageTable, open_usage

NOON = 20_000 * DAY_S + DAY_S / 2
NONE = ClientLimits()

TAKING = """
import sys
from slipway_serve.access.config import ClientLimits
from slipway_serve.access.limits import Limit
from slipway_serve.access.usage import UsageTable
table = UsageTable(int(sys.argv[1]))
limit = Limit(ClientLimits(rate_per_s=1.0, burst=20_000), ClientLimits())
print("ready", flush=True)
sys.stdin.readline()
print(sum(table.take("key:shared", limit, 50.0, 50.0).refusal is None for _ in range(9_000)))
"""


def limit_of(rate: float = 0.0, burst: int | None = None, quota: int = 0) -> Limit:
    return Limit(ClientLimits(rate_per_s=rate, burst=burst, quota_per_day=quota), NONE)


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    rate=st.sampled_from([0.5, 1.0, 3.0, 10.0]),
    burst=st.integers(1, 8),
)
def test_no_window_ever_holds_more_than_the_burst_and_the_rate(gaps: list[float], rate: float, burst: int) -> None:
    limit, usage, now = limit_of(rate, burst), Usage(), 1_000.0
    taken: list[float] = []
    for gap in gaps:
        now += gap
        result = limit.take(usage, now, NOON)
        usage = result.usage
        if result.refusal is None:
            taken.append(now)
        else:
            assert limit.take(usage, now + result.wait_s + 1e-6, NOON).refusal is None  # `Retry-After` is true

    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - start) + 1e-6


@given(rate=st.sampled_from([0.5, 1.0, 7.0]), burst=st.integers(1, 5), count=st.integers(1, 50))
def test_who_keeps_to_the_rate_is_never_refused(rate: float, burst: int, count: int) -> None:
    limit, usage = limit_of(rate, burst), Usage()

    for number in range(count):
        result = limit.take(usage, 10.0 + number / rate, NOON)
        usage = result.usage

        assert result.refusal is None


def test_the_headers_say_what_is_left_and_when_it_is_back() -> None:
    limit = limit_of(rate=2.0, burst=4, quota=10)

    result = limit.take(limit.take(Usage(), 100.0, NOON).usage, 100.0, NOON)

    assert limit.policy == b'"rate";q=4;w=2, "day";q=10;w=86400'
    assert limit.remaining(result, NOON) == b'"rate";r=2;t=1, "day";r=8;t=43200'


def test_a_quota_ends_with_the_day_and_a_refusal_costs_none_of_it() -> None:
    limit, usage = limit_of(rate=1.0, burst=1, quota=2), Usage()

    taken = limit.take(usage, 0.0, NOON)
    refused = limit.take(taken.usage, 0.0, NOON)
    second = limit.take(refused.usage, 10.0, NOON)
    spent = limit.take(second.usage, 20.0, NOON)
    tomorrow = limit.take(spent.usage, 30.0, NOON + DAY_S / 2)

    assert [result.refusal for result in (taken, refused, second, spent, tomorrow)] == [
        None,
        "rate",
        None,
        "quota",
        None,
    ]
    assert spent.wait_s == DAY_S / 2
    assert tomorrow.quota_left == 1


def test_a_machine_that_was_started_again_leaves_nobody_waiting_longer_than_an_empty_bucket() -> None:
    """The monotonic clock begins anew; what was kept in a file is of the old one."""
    limit = limit_of(rate=1.0, burst=5)

    result = limit.take(Usage(full_at=1e9), 3.0, NOON)

    assert result.refusal == "rate"
    assert result.wait_s == pytest.approx(1.0)


def test_what_a_client_leaves_out_is_as_for_all() -> None:
    others = ClientLimits(rate_per_s=5.0, burst=9, quota_per_day=100)

    quota_only, rate_only = Limit(ClientLimits(quota_per_day=7), others), Limit(ClientLimits(rate_per_s=2.0), others)
    unlimited = Limit(ClientLimits(rate_per_s=0.0, quota_per_day=0), others)

    assert (quota_only.rate_per_s, quota_only.burst, quota_only.quota_per_day) == (5.0, 9, 7)
    assert (rate_only.rate_per_s, rate_only.burst, rate_only.quota_per_day) == (2.0, 2, 100)
    assert not unlimited.is_limited


def test_processes_count_together_and_exactly() -> None:
    fd = open_usage(None)
    try:
        command = [sys.executable, "-c", TAKING, str(fd)]
        pipe = subprocess.PIPE
        started = [subprocess.Popen(command, pass_fds=(fd,), stdin=pipe, stdout=pipe) for _ in range(3)]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        taken = [int(process.communicate(timeout=60)[0]) for process in started]
    finally:
        os.close(fd)

    assert sum(taken) == 20_000
    assert len([count for count in taken if count]) > 1


def test_addresses_without_end_take_no_named_client_his_count(tmp_path: Path) -> None:
    fd = open_usage(tmp_path / "quotas")
    try:
        table, limit = UsageTable(fd), limit_of(quota=5)
        table._rows = 1  # one row of clients with a name, one of others
        for _ in range(3):
            table.take("key:billing", limit, 0.0, NOON)

        for number in range(100):
            table.take(f"address:10.0.0.{number // 5}", limit, 0.0, NOON)

        assert table.take("key:billing", limit, 0.0, NOON).quota_left == 1
    finally:
        os.close(fd)


def test_a_full_row_gives_up_who_has_used_least(tmp_path: Path) -> None:
    fd = open_usage(tmp_path / "quotas")
    try:
        table, limit = UsageTable(fd), limit_of(quota=1_000)
        table._rows = 1  # everybody in one row
        for number in range(8):
            for _ in range(number + 2):
                table.take(f"key:{number}", limit, 0.0, NOON)

        table.take("key:new", limit, 0.0, NOON)
        left = {number: table.take(f"key:{number}", limit, 0.0, NOON).quota_left for number in (7, 6, 5, 4, 3, 2, 1)}

        assert left == {number: 1_000 - (number + 2) - 1 for number in left}
    finally:
        os.close(fd)


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are not counts" * 10)

    with pytest.raises(QuotaFileError, match=r"notes\.txt"):
        open_usage(path)

    assert path.read_text() == "these are not counts" * 10


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"quota_per_day": 5}, "runtime.access.state"),
        ({"clients": {"key:a": ClientLimits(quota_per_day=5)}}, "key:a"),
        ({"clients": {"billing": ClientLimits(rate_per_s=5)}}, "key:billing"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused_at_the_start(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AccessConfig(**table)  # type: ignore[arg-type]  # as decoded

    assert said in f"{caught.value.message} {caught.value.hint}"
