"""The playbooks as pages: each failure has one, a drill follows it, its queries are queries. Part of `make test`."""

import re
import subprocess
from pathlib import Path

import pytest
from gameday_drill import ROOT
from slo_files import promtool

from slipway_signals.runbooks import Runbook, fill, load_runbook, names_in
from slipway_signals.slo.promrules import render_yaml
from slipway_signals.slo.series import Known, selectors_of

PAGES = [load_runbook(path) for path in sorted((ROOT / "runbooks").glob("playbook-*.md"))]
DRILLED = [page for page in PAGES if page.name != "playbook-game-day"]
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify", "Escalation"]
LONGEST = 150
FAILURES = {f"F{number}" for number in range(1, 9)}
VALUES = {
    "service": "churn", "slo": "churn-availability", "model": "churn", "folder": "services/churn", "pid": "1",
    "admin": "http://127.0.0.1:8002", "release": "churn:2", "previous": "churn:1",
}  # fmt: skip


def drills() -> str:
    """The text of every drill."""
    return "".join(
        path.read_text() for path in Path(__file__).parent.glob("test_gameday_*.py") if path.name != __file__
    )


def queries(page: Runbook) -> list[str]:
    """All that the page asks."""
    asked = [evidence.promql for evidence in page.evidence] + [cause.promql for cause in page.causes if cause.promql]
    return [*asked, *page.queries("Diagnosis"), *page.queries("Verify")]


def test_every_failure_is_drilled_by_a_playbook() -> None:
    found = re.findall(r'Rehearsal\("([^"]+)", "([^"]+)"', drills())

    assert {fault.partition(" ")[0] for fault, _ in found} == {*FAILURES, "rollback"}
    assert {f"playbook-{name}" for _, name in found} == {page.name for page in DRILLED}


def test_the_page_of_the_game_day_names_every_drill() -> None:
    page = load_runbook(ROOT / "runbooks" / "playbook-game-day.md")
    table = page.section("Diagnosis")

    for fault, name in re.findall(r'Rehearsal\("([^"]+)", "([^"]+)"', drills()):
        assert fault.partition(" ")[0] in table
        assert f"](playbook-{name}.md)" in table
    alerts = re.findall(r'drill\.inject\(.*?"(Slipway\w+)"', drills(), re.DOTALL)
    assert set(re.findall(r"Slipway\w+", table)) == set(alerts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_playbook_can_be_followed_at_three_in_the_morning(page: Runbook) -> None:
    text = (ROOT / "runbooks" / f"{page.name}.md").read_text()
    known = {path.stem for path in (ROOT / "runbooks").glob("Slipway*.md")}

    assert [section.heading for section in page.sections] == SECTIONS
    assert set(page.alerts) <= known
    assert page.causes[-1].promql is None, "what remains when no other cause holds"
    assert len(text.splitlines()) <= LONGEST
    for command in (*page.commands("Diagnosis"), *page.commands("Mitigation"), *page.commands("Verify")):
        assert names_in(command) <= set(VALUES)
    for linked in re.findall(r"\]\(([^)#:]+\.md)\)", text):
        assert (ROOT / "runbooks" / linked).is_file(), linked


@pytest.mark.parametrize("page", DRILLED, ids=lambda page: page.name)
def test_a_playbook_asks_only_what_is_counted(page: Runbook) -> None:
    known = Known(recorded=recorded())

    assert page.commands("Mitigation")
    assert page.queries("Verify")
    for query in queries(page):
        for selector in selectors_of(fill(query, VALUES, into="promql")):
            assert known.problem_of(selector) is None, query


def recorded() -> set[str]:
    """Names of the recorded series."""
    rules = "".join(path.read_text() for path in (ROOT / "observability" / "rules").glob("*.yaml"))
    return set(re.findall(r"record: (\S+)", rules))


@pytest.mark.needs("promtool")
def test_every_query_of_a_playbook_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": "page:query", "expr": fill(query, VALUES, into="promql"), "labels": {"page": f"{page.name}-{place}"}}
        for page in PAGES
        for place, query in enumerate(queries(page))
    ]
    path = tmp_path / "pages.yaml"
    path.write_text(render_yaml({"groups": [{"name": "pages", "rules": rules}]}, source="runbooks"))

    run = promtool("check", "rules", str(path))

    assert rules
    assert run.returncode == 0, run.stderr


def test_the_command_of_the_page_runs_the_drills() -> None:
    (command,) = load_runbook(ROOT / "runbooks" / "playbook-game-day.md").commands("Diagnosis")

    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "-m gameday" in done.stdout
    assert "tests/gameday" in done.stdout
