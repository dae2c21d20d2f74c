"""The generated tests of every alert, run by the real promtool; and that they would find a wrong rule."""

from pathlib import Path

import pytest
from msgspec import structs
from slo_files import AVAILABILITY, DEPTH, RAW, ROOT, SLICES, asked, part_of, promtool, read, run_files, run_part

from slipway_signals.slo.burn import TIERS, detection_s
from slipway_signals.slo.compile import Part, render_part
from slipway_signals.slo.drills import GRACE_S, Case, counter, firing
from slipway_signals.slo.operation import operation_watches
from slipway_signals.slo.platform_watches import platform_watches
from slipway_signals.slo.promrules import Group, Timing
from slipway_signals.slo.slo_drills import slo_cases
from slipway_signals.slo.watch_drills import watch_cases

pytestmark = [pytest.mark.needs("promtool"), pytest.mark.slow, pytest.mark.timeout(300)]

GENERATED = sorted((ROOT / "observability" / "tests").glob("*.yaml"))
TOTAL = 'http_server_request_duration_seconds_count{service="churn",http_response_status_code="200"}'
BAD = 'http_server_request_duration_seconds_count{service="churn",http_response_status_code="500"}'


def forms() -> list[object]:
    """The generated tests, and of services that differ by nothing but their names the first one's; only churn's are
    in `make test`, the others in `make e2e`: promtool needs a quarter of a minute for each.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in GENERATED:
        service = path.stem.partition(".")[0]
        rules = path.parents[1] / "rules" / path.name
        found.setdefault((renamed(path.read_text(), service), renamed(rules.read_text(), service)), path)
    return [
        pytest.param(path, id=path.stem, marks=() if path.stem.startswith("churn") else pytest.mark.e2e)
        for path in found.values()
    ]


def renamed(text: str, service: str) -> str:
    """The text with another name in the place of the service's."""
    return text.replace(service, "$service")


@pytest.mark.parametrize("path", forms())
def test_the_generated_tests_pass(path: Path) -> None:
    run = promtool("test", "rules", str(path))

    assert run.returncode == 0, run.stderr + run.stdout


@pytest.mark.parametrize(
    "text", [DEPTH, RAW, SLICES, AVAILABILITY.replace("30d", "4w")], ids=["gauge", "raw", "slices", "4w"]
)
@pytest.mark.e2e
def test_an_objective_of_another_kind_passes_its_own_tests(text: str, tmp_path: Path) -> None:
    run = run_part(part_of(text), tmp_path)

    assert run.returncode == 0, run.stderr + run.stdout


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [
        ("fires", "> 14.4 * 0.001", "> 20 * 0.001"),
        ("fires", "> 3 * 0.001", "> 6 * 0.001"),
        ("fires", 'ratio_rate5m{slo="churn-availability"} > 14.4', 'ratio_rate2h{slo="churn-availability"} > 14.4'),
        ("fast pair", "> 14.4 * 0.001", "> 12 * 0.001"),
        ("steady pair", "> 6 * 0.001", "> 5 * 0.001"),
        ("wakes nobody", "and slipway:slo_errors_lcb:ratio_rate1h", "and slipway:slo_errors:ratio_rate1h"),
        ("ends within", '{slo="churn-availability"} < 1', '{slo="churn-availability"} < 2'),
        ("is told", "severity: page", "severity: ticket"),
        ("is told", "humanizePercentage }} of the events", "humanize }} of the events"),
        ("nothing is counted", "for: 30m", "for: 1h"),
    ],
)
@pytest.mark.e2e
def test_a_wrong_rule_is_found(case: str, old: str, new: str, tmp_path: Path) -> None:
    part = part_of(AVAILABILITY)
    (told,) = [each for each in part.cases if case in each.name]
    files = render_part(asked(part, told), with_tests=True)
    rules = files["rules/churn-availability.yaml"]
    assert old in rules

    run = run_files(files | {"rules/churn-availability.yaml": rules.replace(old, new)}, tmp_path)

    assert run.returncode == 1
    assert "FAILED" in run.stdout + run.stderr


@pytest.mark.parametrize("index", range(18))
def test_a_condition_that_never_or_always_holds_is_found(index: int, tmp_path: Path) -> None:
    watch = [*operation_watches("churn", "x", Timing()), *platform_watches("churn", "x", Timing())][index]
    cases = tuple(watch_cases([watch]))

    for name, expr in (("never", "vector(1) > 2"), ("always", "vector(1)")):
        group = Group(name="x", rules=(structs.replace(watch.alert, expr=expr),))
        run = run_part(Part(name="x", source="x", groups=(group,), cases=cases), tmp_path / name)

        assert run.returncode == 1, name


@pytest.mark.e2e
def test_detection_with_three_days_of_history_is_that_of_the_workbook(tmp_path: Path) -> None:
    """True windows, whole history: 10 % errors after three clean days, all four window pairs."""
    part = part_of(AVAILABILITY)
    history_s, errors = 3 * 86_400.0, 0.1
    slo = read(AVAILABILITY).slos[0]
    checks = []
    for tier in TIERS:
        at_s = detection_s(tier, target=slo.target, window_s=slo.window_s, errors=errors)
        labels = {"alertname": tier.alert, "tier": tier.name}
        checks += [
            firing(history_s + at_s - 30, labels),
            firing(history_s + at_s + GRACE_S, labels, count=1),
        ]
    series = {TOTAL: counter([(history_s, 3_000), (3_600, 2_700)]), BAD: counter([(history_s, 0), (3_600, 300)])}
    case = Case(name="three days", series=series, checks=tuple(checks))

    run = run_part(Part(name=part.name, source="x", groups=part.groups, cases=(case,)), tmp_path)

    assert run.returncode == 0, run.stdout


def test_the_cases_of_an_objective_cover_its_whole_life() -> None:
    names = " ".join(case.name for case in slo_cases(read(AVAILABILITY).slos[0]))

    for word in (
        "fires and resolves",
        "nine tenths",
        "ends within the hour",
        "wakes nobody",
        "what is told",
        "nothing is counted",
    ):
        assert word in names
