import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from slo_files import AVAILABILITY, DEPTH, LATENCY, RAW, ROOT, SLICES, part_of, promtool, read

from slipway_signals import metrics
from slipway_signals.slo import build
from slipway_signals.slo.compile import alerts_of, compile_all, parts_of, platform_part
from slipway_signals.slo.facts import ServiceFacts
from slipway_signals.slo.promised_watches import promised_watches
from slipway_signals.slo.promrules import Alert, Record, Timing
from slipway_signals.slo.series import Known, selectors_of

ALL_KINDS = (AVAILABILITY, LATENCY, DEPTH, RAW, SLICES)
LABELS = {"severity", "service", "category", "owner"}
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard_url"}


def every_alert() -> list[Alert]:
    services = build.load_services(ROOT)
    parts = [part for service in services for part in parts_of(service, Timing(), Known())]
    return [alert for part in [*parts, platform_part(Timing(), Known())] for alert in alerts_of(part)]


def test_the_committed_files_are_what_slo_yaml_says() -> None:
    """`slipway slo build` or `make regen` writes them."""
    assert build.differences(ROOT, build.outputs(ROOT)) == []


def test_the_same_objectives_give_the_same_bytes() -> None:
    service = read(AVAILABILITY)

    assert compile_all([service]) == compile_all([read(AVAILABILITY)])


def test_every_alert_says_who_how_badly_why_and_where() -> None:
    for alert in every_alert():
        assert alert.labels.keys() >= LABELS, alert.name
        assert alert.annotations.keys() >= ANNOTATIONS, alert.name  # drift has more, for the retraining hook
        assert alert.labels["severity"] in {"page", "ticket", "info"}
        assert len(re.sub(r"{{.*?}}", "100.0%", alert.annotations["summary"])) <= 80
        is_read_by_people = alert.labels["severity"] != "info"
        where = "description" if alert.labels["service"] == "monitoring" else "summary"
        assert re.search(r"\$value|\d", alert.annotations[where]) or not is_read_by_people, alert.name
        assert alert.name.startswith("Slipway")
        assert alert.annotations["runbook_url"] == f"runbooks/{alert.name}.md"


def test_every_generated_alert_has_a_test_that_it_fires_and_one_that_it_tells() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "observability" / "tests").glob("*.yaml"))
    told = set(re.findall(r"alertname: (Slipway\w+)", tests))
    fires = set(re.findall(r'ALERTS\{alertstate="firing",alertname="(\w+)"', tests))
    made = {alert.name for alert in every_alert()}

    assert made <= told
    assert made - {"SlipwaySLOBudgetSpent"} <= fires  # its budget is spent from the first minute: it is told, only


def test_no_rule_asks_for_a_series_that_nobody_has() -> None:
    service = read(f"{AVAILABILITY}---\n{LATENCY}")
    without = [metric for metric in metrics.ALL if metric is not metrics.COLD]

    assert parts_of(service, Timing(), Known())
    with pytest.raises(RuntimeError, match="slipway_cold_requests_total"):
        parts_of(service, Timing(), Known(without))


def test_an_alert_waits_until_its_metric_exists() -> None:
    names = {alert.name for alert in every_alert()}
    waiting = {watch.alert.name: watch.alert.expr for watch in promised_watches("churn", "x", Timing())}

    for name, expr in waiting.items():
        exists = all(selector.metric in Known() for selector in selectors_of(expr))
        assert (name in names) == exists


def test_long_windows_ask_recorded_series_only() -> None:
    """Pyrra's `increase(x[4w])` took 95 s an evaluation where it was large (pyrra#1440)."""
    group = part_of(AVAILABILITY).groups[0]
    ranges = {found for rule in group.rules for found in re.findall(r"http_\w+\{[^}]*\}\[(\w+)\]", rule.expr)}

    assert ranges == {"1m", "5m", "30m", "1h", "2h", "6h"}


def test_another_window_has_its_own_factors_and_names() -> None:
    part = part_of(AVAILABILITY.replace("30d", "4w"))
    rules = part.groups[0].rules
    exprs = [rule.expr for rule in rules if isinstance(rule, Alert)]

    assert any("> 13.44 * 0.001" in expr for expr in exprs)
    assert any(isinstance(rule, Record) and rule.name == "slipway:slo_errors:ratio_rate28d" for rule in rules)


def test_a_ticket_objective_pages_nobody() -> None:
    note = "slipway.dev/owner: team-churn\n    slipway.dev/severity: ticket"
    part = part_of(AVAILABILITY.replace("slipway.dev/owner: team-churn", note))

    assert {alert.labels["severity"] for alert in alerts_of(part)} == {"ticket"}


def test_a_time_scale_divides_every_length_and_keeps_every_name() -> None:
    service = read(AVAILABILITY)
    true = [rule for part in parts_of(service, Timing(), Known()) for group in part.groups for rule in group.rules]
    fast = [rule for part in parts_of(service, Timing(20), Known()) for group in part.groups for rule in group.rules]

    assert [rule.name for rule in fast] == [rule.name for rule in true]
    text = "\n".join(rule.expr for rule in fast)
    assert (
        set(re.findall(r"\[(\w+)(?::(\w+))?\]", text)) >= {("15s", ""), ("3s", ""), ("129600s", "15s")}
        or "[36h:15s]" in text
    )
    assert not re.search(r"\[(5m|1h|6h|30d)[\]:]", text)
    assert not any(name.startswith("tests/") for name in compile_all([service], timing=Timing(20)))


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("text", ALL_KINDS, ids=["ratio", "buckets", "gauge", "raw", "slices"])
def test_promtool_accepts_the_rules_of_every_kind_true_and_scaled(text: str, tmp_path: Path) -> None:
    for scale in (1, 20):
        files = compile_all([read(text)], timing=Timing(scale))
        for name, rules in files.items():
            if name.startswith("rules/"):
                (tmp_path / f"{scale}-{Path(name).name}").write_text(rules)

    run = promtool("check", "rules", "--lint-fatal", *map(str, sorted(tmp_path.glob("*.yaml"))))

    assert run.returncode == 0, run.stderr


def test_facts_have_what_dashboards_need() -> None:
    text = (ROOT / "observability" / "slo" / "churn.json").read_text()
    facts = msgspec.json.decode(text, type=ServiceFacts)

    assert facts.thresholds_s == (0.05,)
    assert [slo.objective for slo in facts.slos] == [0.999, 0.99]
    assert facts.slos[1].threshold_s == 0.05
    assert "SlipwaySLOFastBurn" in facts.slos[0].alerts
    assert {alert.severity for alert in facts.alerts} == {"page", "ticket", "info"}
    assert json.loads(text)["slos"][0]["queries"]["burn_rate"].startswith("slipway:slo_burn_rate")


def test_what_somebody_else_put_there_is_left_alone(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "services" / "churn", tmp_path / "services" / "churn", ignore=shutil.ignore_patterns("model")
    )
    wanted = build.outputs(tmp_path)
    build.write(tmp_path, wanted)
    own = tmp_path / "observability" / "rules" / "ours.yaml"
    own.write_text("groups: []\n")
    stale = own.with_name("gone.yaml")
    stale.write_text("# Written by `slipway slo build`; change x and run it again.\n")

    changed = build.write(tmp_path, wanted)

    assert [path.name for path in changed] == ["gone.yaml"]
    assert own.exists()
    assert not stale.exists()


@pytest.mark.needs("amtool")
def test_alertmanager_reads_its_configuration() -> None:
    path = ROOT / "observability" / "alertmanager" / "alertmanager.yaml"

    run = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.needs("amtool")
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"severity": "page", "owner": "team-churn", "slo": "churn-availability"}, "page-team-churn"),
        ({"severity": "ticket", "owner": "team-churn", "category": "restart"}, "ticket-team-churn"),
        ({"severity": "ticket", "owner": "team-churn", "category": "drift"}, "ticket-team-churn"),
        ({"severity": "ticket", "owner": "platform", "category": "monitoring"}, "ticket-platform"),
        ({"severity": "info", "owner": "team-churn", "category": "deploy"}, "nobody"),
        ({"severity": "info", "owner": "platform", "alertname": "SlipwayWatchdog"}, "watchdog"),
        ({"severity": "ticket", "owner": "somebody"}, "ticket-platform"),
    ],
)
def test_each_alert_reaches_its_owner(labels: dict[str, str], receiver: str, tmp_path: Path) -> None:
    note = "slipway.dev/owner: team-churn\n    slipway.dev/deploy-window: tuesday 09:00-10:00 UTC"
    text = AVAILABILITY.replace("slipway.dev/owner: team-churn", note)
    path = tmp_path / "alertmanager.yaml"
    path.write_text(compile_all([read(text)])["alertmanager/alertmanager.yaml"])
    pairs = [f"{name}={value}" for name, value in {"service": "churn", **labels}.items()]

    command = ["amtool", "config", "routes", "test", f"--config.file={path}", *pairs]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.stdout.strip() == receiver, run.stderr


def test_only_tickets_that_are_no_objective_can_be_muted() -> None:
    note = "slipway.dev/owner: team-churn\n    slipway.dev/deploy-window: tuesday 09:00-10:00 UTC"
    config = compile_all([read(AVAILABILITY.replace("slipway.dev/owner: team-churn", note))])
    muted = re.findall(
        r"- receiver: (\S+)\n((?: {6,}.*\n)*?) +mute_time_intervals:", config["alertmanager/alertmanager.yaml"]
    )

    assert [receiver for receiver, _ in muted] == ["ticket-team-churn"] * 2
    assert all('slo=""' in matchers for _, matchers in muted)
