"""The pages in `runbooks/`, and how they are read: each alert has one; queries are queries, names are known.

What is asked of a query is asked of playbooks, too; their form, and that each is rehearsed, is up to `tests/gameday`.
"""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slo_files import ROOT, promtool
from test_signals_slo_files import every_alert

from slipway_signals.drift.alerts import drift_alerts
from slipway_signals.drift.promql import Thresholds
from slipway_signals.runbooks import (
    Runbook,
    RunbookError,
    fill,
    fill_known,
    fill_page,
    load_runbook,
    load_runbooks,
    names_in,
)
from slipway_signals.slo.promised_watches import promised_watches
from slipway_signals.slo.promrules import Timing, render_yaml
from slipway_signals.slo.series import Known, selectors_of

FOLDER = ROOT / "runbooks"
EVERY = load_runbooks(FOLDER).values()
PAGES = [page for page in EVERY if page.alert is not None]
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify", "Escalation"]
LONGEST = 80
"""Lines below the front matter."""

VALUES = {
    "service": "churn", "slo": "churn-availability", "model": "churn", "instance": "127.0.0.1:8002",
    "alertname": "SlipwaySLOFastBurn", "folder": "services/churn", "capture": "captured", "release": "sha256:ab",
    "previous": "sha256:cd", "server": "http://127.0.0.1:8000", "admin": "http://127.0.0.1:8002",
    "namespace": "shop", "prometheus": "http://127.0.0.1:9090", "alertmanager": "http://127.0.0.1:9093", "pid": "1",
}  # fmt: skip
NAMELESS = re.compile(r"\(\{[^}]*\}")
"""`({service="churn"}`: a selector of every metric."""

FOUND = {"value", "percent", "pool", "peer", "reason", "worker", "feature", "process", "integration", "alertmanager",
         "rule_group"}  # fmt: skip
"""What only a cause's own query gives."""

NAME = "SlipwayTest"
PAGE = """---
alert: SlipwayTest
severity: ticket
owner: somebody
evidence:
  - {id: one, question: How many?, promql: 'up{service="$service"}', empty: none}
causes:
  - {name: all of them, promql: 'up == 0', why: $value are down, step: look, command: slipway doctor}
---

# SlipwayTest

## Meaning

```sh
not a heading:
## Nothing
```

## Diagnosis

1. Ask.

   ```promql
   up
   ```

   ```sh
   slipway swap $previous --admin $admin
   curl $server
   ```
"""


def defined() -> dict[str, str]:
    """Severity of every alert, of those that wait for their metrics, too."""
    waiting = [watch.alert for watch in promised_watches("churn", "x", Timing())]
    drift = drift_alerts("churn", "x", Timing(), Thresholds())
    return {alert.name: alert.labels["severity"] for alert in (*waiting, *drift, *every_alert())}


def queries(page: Runbook) -> list[str]:
    """All that a page asks."""
    asked = [evidence.promql for evidence in page.evidence] + [cause.promql for cause in page.causes if cause.promql]
    return [*asked, *(query for section in page.sections for query in page.queries(section.heading))]


def commands(page: Runbook) -> list[str]:
    """All that a page has people type."""
    typed = [cause.command for cause in page.causes if cause.command]
    return [*typed, *(command for section in page.sections for command in page.commands(section.heading))]


def write(folder: Path, text: str) -> Path:
    """The text as a page."""
    path = folder / f"{NAME}.md"
    path.write_text(text)
    return path


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.name for page in PAGES} == set(defined())


def test_the_index_lists_every_page_once() -> None:
    linked = re.findall(r"\]\(([\w-]+)\.md\)", (FOLDER / "README.md").read_text())

    assert sorted(linked) == sorted(load_runbooks(FOLDER))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_can_be_read_at_three_in_the_morning(page: Runbook) -> None:
    text = (FOLDER / f"{page.name}.md").read_text()
    body = text.split("\n---\n", 1)[1]

    assert page.alert == page.name
    assert page.severity.split()[0] == defined()[page.name]
    assert [section.heading for section in page.sections] == SECTIONS
    assert len(body.splitlines()) <= LONGEST
    assert page.queries("Diagnosis")
    assert page.queries("Verify")
    assert not re.search(r"\b(just|simply|easy|easily)\b", text)
    for linked in re.findall(r"\]\(([^)#:]+\.md)\)", text):
        assert (FOLDER / linked).is_file(), linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_leads_to_a_cause_and_a_next_step(page: Runbook) -> None:
    assert 2 <= len(page.evidence) <= 5
    assert page.causes
    assert all(cause.promql for cause in page.causes[:-1]), "only the last cause may be what remains"
    for cause in page.causes:
        names = names_in(cause.why) | names_in(cause.step)
        assert names <= set(VALUES) | FOUND
        assert cause.promql or "value" not in names


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.name)
def test_a_page_names_only_what_can_be_known(page: Runbook) -> None:
    for text in (*queries(page), *commands(page)):
        assert names_in(text) <= set(VALUES), text


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.name)
def test_a_page_asks_only_what_is_counted(page: Runbook) -> None:
    known = Known(recorded=recorded())

    for query in queries(page):
        named = NAMELESS.sub("(up", fill(query, VALUES, into="promql"))
        for selector in selectors_of(named):
            if not selector.metric.startswith("process_"):  # of every program with a Prometheus client
                assert known.problem_of(selector) is None, query


def recorded() -> set[str]:
    """Names of the recorded series."""
    rules = "".join(path.read_text() for path in (ROOT / "observability" / "rules").glob("*.yaml"))
    return set(re.findall(r"record: (\S+)", rules))


@pytest.mark.needs("promtool")
def test_every_query_of_every_page_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": "page:query", "expr": fill(query, VALUES, into="promql"), "labels": {"page": f"{page.name}-{place}"}}
        for page in EVERY
        for place, query in enumerate(queries(page))
    ]
    path = tmp_path / "pages.yaml"
    path.write_text(render_yaml({"groups": [{"name": "pages", "rules": rules}]}, source="runbooks"))

    run = promtool("check", "rules", str(path))

    assert len(rules) > 300
    assert run.returncode == 0, run.stderr


def test_a_page_is_read_as_it_is_written(tmp_path: Path) -> None:
    page = load_runbook(write(tmp_path, PAGE))

    assert (page.name, page.alerts, page.title) == ("SlipwayTest", ("SlipwayTest",), "SlipwayTest")
    assert [section.heading for section in page.sections] == ["Meaning", "Diagnosis"]
    assert page.queries("Diagnosis") == ("up",)
    assert page.commands("Diagnosis") == ("slipway swap $previous --admin $admin\ncurl $server",)
    assert page.causes[0].command == "slipway doctor"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("---\nalert", "alert"), "front matter"),
        (("owner: somebody\n", ""), "owner"),
        (("alert: SlipwayTest\n", ""), "one of them only"),
        (("alert: SlipwayTest\n", "alert: SlipwayTest\nalerts: [A]\n"), "one of them only"),
        (("empty: none}", "empty: none, expect: x}"), "expect"),
        (("causes:", "  - {id: one, question: x, promql: up, empty: x}\ncauses:"), "'one' twice"),
        (("severity: ticket", "severity: [ticket"), "front matter"),
    ],
    ids=["no front matter", "no owner", "no alert", "both", "unknown field", "twice", "no YAML"],
)
def test_a_wrong_page_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    with pytest.raises(RunbookError, match=re.escape(told)) as caught:
        load_runbook(write(tmp_path, PAGE.replace(*change, 1)))

    assert f"{NAME}.md" in caught.value.message


def test_a_heading_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    page = load_runbook(write(tmp_path, PAGE))

    with pytest.raises(RunbookError, match="Meaning, Diagnosis"):
        page.commands("Mitigations")


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(RunbookError, match=r"`\$model` has no value, expected one of those known: \$service"):
        fill("up{model=$model}", {"service": "churn"})


def test_what_belongs_to_the_shell_stays() -> None:
    assert fill("echo $HOME $(date) $1 ${service}", {"service": "churn"}, into="sh") == "echo $HOME $(date) $1 churn"


@given(st.text())
def test_a_value_is_one_word_of_the_shell(value: str) -> None:
    """A label is data, whoever wrote it: it ends up as one argument, and runs nothing."""
    import shlex

    filled = fill("slipway oncall $service --json", {"service": value}, into="sh")

    assert shlex.split(filled) == ["slipway", "oncall", value, "--json"]


def test_a_value_cannot_leave_its_string_in_a_query() -> None:
    hostile = {"service": 'x"} or vector(1) #\\'}

    assert fill('up{service="$service"}', hostile, into="promql") == 'up{service="x\\"} or vector(1) #\\\\"}'


def test_a_page_is_filled_as_each_part_needs_it(tmp_path: Path) -> None:
    section = load_runbook(write(tmp_path, PAGE)).section("Diagnosis")

    filled = fill_page(f"For $service:\n\n{section}", {"service": "a b", "previous": "a b", "server": "http://x"})

    assert "For a b:" in filled
    assert "slipway swap 'a b' --admin $admin" in filled
    assert "curl http://x" in filled


def test_names_that_are_not_known_stay_for_a_person() -> None:
    assert fill_known("slipway swap $previous --admin $admin", {"admin": "http://x y"}, into="sh") == (
        "slipway swap $previous --admin 'http://x y'"
    )
