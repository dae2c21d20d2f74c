"""The playbooks as pages: each failure has one, and a drill follows it. Part of `make test`.

That queries are queries and names are known is asked of all pages together, in the room of signals.
"""

import re
import subprocess
from pathlib import Path

import pytest
from gameday_drill import ROOT

from slipway_signals.runbooks import Runbook, load_runbook

PAGES = [load_runbook(path) for path in sorted((ROOT / "runbooks").glob("playbook-*.md"))]
DRILLED = [page for page in PAGES if page.name != "playbook-game-day"]
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify", "Escalation"]
LONGEST = 150
FAILURES = {f"F{number}" for number in range(1, 9)}


def drills() -> str:
    """The text of every drill."""
    here = Path(__file__)
    return "".join(path.read_text() for path in here.parent.glob("test_gameday_*.py") if path != here)


def test_every_failure_is_drilled_by_a_playbook() -> None:
    found = re.findall(r'Rehearsal\("([^"]+)", "([^"]+)"', drills())

    assert {fault.partition(" ")[0] for fault, _ in found} == {*FAILURES, "rollback"}
    assert {f"playbook-{name}" for _, name in found} == {page.name for page in DRILLED}


def test_the_page_of_the_game_day_names_every_drill() -> None:
    page = load_runbook(ROOT / "runbooks" / "playbook-game-day.md")
    table = page.section("Diagnosis")

    for fault, name in re.findall(r'Rehearsal\("([^"]+)", "([^"]+)"', drills()):
        assert f"\n| {fault} |" in table
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
    for linked in re.findall(r"\]\(([^)#:]+\.md)\)", text):
        assert (ROOT / "runbooks" / linked).is_file(), linked


@pytest.mark.parametrize("page", DRILLED, ids=lambda page: page.name)
def test_a_playbook_says_what_to_type_and_what_then_holds(page: Runbook) -> None:
    assert page.commands("Mitigation")
    assert page.queries("Verify")


def test_the_command_of_the_page_runs_the_drills() -> None:
    (command,) = load_runbook(ROOT / "runbooks" / "playbook-game-day.md").commands("Diagnosis")

    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "-m gameday" in done.stdout
    assert "tests/gameday" in done.stdout
