from decimal import Decimal
from pathlib import Path

import pytest
from slo_files import AVAILABILITY, DEPTH, LATENCY, RAW, SLICES, read

from slipway_signals.slo.errors import SloError
from slipway_signals.slo.model import Counters, Gauge, Raw
from slipway_signals.slo.openslo import load_slos, thresholds_s

COUNT = "http_server_request_duration_seconds_count"


def test_an_objective_has_what_was_written() -> None:
    service = read(AVAILABILITY)
    slo = service.slos[0]

    assert (service.service, service.owner) == ("churn", "team-churn")
    assert (slo.name, slo.category, slo.severity) == ("churn-availability", "availability", "page")
    assert slo.budget == Decimal("0.001")
    assert slo.window_s == 30 * 86_400
    assert isinstance(slo.indicator, Counters)
    assert slo.indicator.total.text == f'{COUNT}{{service="churn"}}'


def test_a_percentage_is_exactly_the_share() -> None:
    assert read(AVAILABILITY.replace("target: 0.999", "targetPercent: 99.9")).slos[0].target == Decimal("0.999")


def test_several_objectives_make_one_service() -> None:
    service = read(f"{AVAILABILITY}---\n{LATENCY}---\n{DEPTH}")

    assert [slo.name for slo in service.slos] == ["churn-availability", "churn-latency", "churn-freshness"]
    assert [slo.category for slo in service.slos] == ["availability", "latency", "freshness"]
    assert service.thresholds_s == (0.05,)


def test_every_kind_of_indicator_is_read() -> None:
    kinds = [type(read(text).slos[0].indicator) for text in (LATENCY, DEPTH, RAW)]

    assert kinds == [Counters, Gauge, Raw]
    assert read(SLICES).slos[0].slices is not None


def test_a_server_learns_its_thresholds_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(LATENCY.replace('le="0.05"', 'le="0.0420"'))

    assert thresholds_s(tmp_path) == (0.042,)
    assert thresholds_s(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: SLO", "kind: SLI", "slo.yaml:2:7: $.kind is 'SLI': expected SLO"),
        ("service: churn", "service: 12", "slo.yaml:8:12: $.spec.service is 12: expected text"),
        ("  service: churn", "  servise: churn", "slo.yaml:8:3: $.spec.servise is not a key here"),
        (
            "  service: churn",
            "  service: churn\n  service: x",
            "slo.yaml:9:3: $.spec.service stands twice, first in line 8",
        ),
        ("30d", "30 days", "slo.yaml:10:27: $.spec.timeWindow[0].duration is '30 days': expected a duration from 7d"),
        ("30d", "1d", "expected a duration from 7d to 90d"),
        ("true}", "false}", "$.spec.timeWindow[0].isRolling is false: expected true"),
        (
            "target: 0.999",
            "target: 99.9",
            "slo.yaml:21:25: $.spec.objectives[0].target is 99.9: expected a target between",
        ),
        ("target: 0.999", "target: 1", "expected a target between 0 and 1"),
        ("target: 0.999", "target: 0.93", "the 1h alert would need 101% errors, which cannot be"),
        ("target: 0.999", "target: soon", "is 'soon': expected a number"),
        ("target: 0.999", "target: .nan", "expected a number"),
        ("slipway.dev/owner: team-churn", "slipway.dev/ovner: x", "is not an annotation that slipway knows"),
        ("slipway.dev/owner: team-churn", "other.dev/owner: x", "'slipway.dev/owner' is missing"),
        ("churn-availability", "availability", "expected a name that begins with 'churn-'"),
        ("bad:", "evil:", "is not a key here"),
        ("counter: true", "counter: false", "counter is false: expected true"),
        ("counter: true", "counter: yes", "expected true or false"),
        ("_count'}", "_bucket'}", "a total is a `_count` or a counter, not buckets"),
        (f"{COUNT}{{http", f"{COUNT}s{{http", "no metric is called 'http_server_request_duration_seconds_counts'"),
        ("http_response_status_code=~", "http_status=~", "has no label 'http_status'"),
        (f"{COUNT}'}}", f'{COUNT}{{service="x"}}\'}}', "service is 'x', expected 'churn'"),
        (f"query: '{COUNT}'", f"query: 'rate({COUNT}[5m])'", "slo.yaml:20:32: "),
        (f"query: '{COUNT}'", f"query: 'sum({COUNT})'", "expected the end: one metric and its matchers"),
        ('=~"5.."', '=~"5("', "is not a regular expression"),
        ('{http_response_status_code=~"5.."}', "", "every event of the total is bad"),
        ("Occurrences", "RatioTimeslices", "expected Occurrences or Timeslices"),
        ("Occurrences", "Timeslices", "needs timeSliceTarget and timeSliceWindow"),
        ("[{target: 0.999}]", "[{target: 0.999}, {target: 0.9}]", "expected one objective"),
        ("spec:\n  service", "spec: {}\nspek:\n  service", "$.spek is not a key here"),
        ("apiVersion: openslo/v1", "apiVersion: openslo/v1alpha", "expected openslo/v1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, told: str) -> None:
    assert old in AVAILABILITY

    with pytest.raises(SloError) as caught:
        read(AVAILABILITY.replace(old, new, 1))

    assert told in caught.value.message
    assert caught.value.message.startswith("slo.yaml:")
    assert caught.value.fields["line"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('le="0.05"', 'code="5"', "has no label 'code'"),
        ('{le="0.05"}', "", 'buckets need one `le="<seconds>"`'),
        ('le="0.05"', 'le="fast"', "le is 'fast', expected seconds"),
        ('le="0.05"', 'le="+Inf"', "expected a positive number of seconds"),
        ('le="0.05"', 'le="0.05",http_route="/predict"', "the total of these buckets is"),
        ("good:", "bad:", "buckets count from below"),
    ],
)
def test_a_threshold_that_no_bucket_can_answer_is_told(old: str, new: str, told: str) -> None:
    with pytest.raises(SloError) as caught:
        read(LATENCY.replace(old, new, 1))

    assert told in caught.value.message


def test_not_like_pyrra_1502_an_le_that_no_bucket_has_is_refused_with_the_nearest() -> None:
    """Of the request histogram any threshold becomes a bucket; the others have the bounds that they have."""
    inner = LATENCY.replace("http_server_request_duration_seconds", "slipway_inference_duration_seconds")

    with pytest.raises(SloError, match=r"no such bucket; the nearest are 0\.025 and 0\.05"):
        read(inner.replace('le="0.05"', 'le="0.04"'))
    with pytest.raises(SloError, match="the total of these buckets"):
        read(inner.replace("_seconds_count'", '_seconds_count{model="m"}\''))

    [slo] = read(inner.replace('le="0.05"', 'le="1"')).slos
    assert isinstance(slo.indicator, Counters)
    assert slo.indicator.part.value_of("le") == "1.0"  # as prometheus-client writes it


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [x]\nb: *a\n", "slo.yaml:1:4: anchors and aliases are not read here"),
        ("a: !!python/object/apply:os.system ['true']\n", "slo.yaml:1:4: the tag"),
        ("[" * 5_000, "slo.yaml:1:25: nested deeper than 24"),
        ("- x\n" * 10_001, "more than 10000 values"),
        ("a: [1\nb: 2", "slo.yaml:2:2: not YAML"),
        ("a: \x07", "slo.yaml:1:4: not YAML"),
        ("a: b: c", "slo.yaml:1:5: not YAML"),
        ("- x", "$ is a list: expected a mapping"),
        ("1: x", "expected text as a key"),
        ("", "holds no objective"),
    ],
    ids=["anchors", "tags", "depth", "values", "syntax", "control", "colon", "list", "key", "empty"],
)
def test_hostile_yaml_is_bounded(text: str, told: str) -> None:
    with pytest.raises(SloError) as caught:
        read(text)

    assert told in caught.value.message


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("# " + "x" * 300_000)

    with pytest.raises(SloError, match="larger than 262144 bytes"):
        load_slos(path)


def test_what_is_not_text_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_bytes(b"a: b\nc: \xff\n")

    with pytest.raises(SloError, match=r"slo\.yaml:2:1: byte 8 is not UTF-8"):
        load_slos(path)


def test_two_objectives_of_one_name_are_told() -> None:
    with pytest.raises(SloError, match=r"'churn-availability' stands twice, first at slo\.yaml:1"):
        read(f"{AVAILABILITY}---\n{AVAILABILITY}")


@pytest.mark.parametrize(
    "window", ["sunday 25:00-26:00 UTC", "friday:monday 09:00-10:00 UTC", "monday 10:00-10:00 UTC", "now"]
)
def test_a_deploy_window_that_is_none_is_told(window: str) -> None:
    note = f"slipway.dev/owner: team-churn\n    slipway.dev/deploy-window: {window}"

    with pytest.raises(SloError, match=r"slo\.yaml:7:32"):
        read(AVAILABILITY.replace("slipway.dev/owner: team-churn", note))
