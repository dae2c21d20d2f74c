"""Every question and every command of the alerts' pages, asked and run: nothing on a page is only text.

The questions go to the Prometheus of `watched`. The commands run in a copy of the repository, as they are written, with
the names filled in as for the person on call; those that change something change the canary, which then goes back.
What only a playbook says is run by the drills of the game day; what asks a cluster, by tests/lab.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from slipway_signals.oncall import brief
from slipway_signals.runbooks import Runbook, fill, load_runbooks, names_in

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool", "amtool", "curl")]

ROOT = Path(__file__).resolve().parents[2]
EVERY = load_runbooks(ROOT / "runbooks")
PAGES = [page for page in EVERY.values() if page.alert is not None]
COMMAND_S = 120
SAYS_NO = {"slipway doctor": {0, 1}}
"""Exit statuses that are an answer: `doctor` is about the machine that runs the tests."""

IN_A_CLUSTER = "slipway traffic "
PROGRAMS = {"slipway", "curl", "promtool", "amtool", "df"}


class Ground(Struct, frozen=True):
    """Where commands are run, and what the names on a page stand for."""

    folder: Path
    environment: dict[str, str]
    values: dict[str, str]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """As a person types it."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )


def typed() -> dict[str, str]:
    """Each line to be typed here, once, with the page that it was found on."""
    found: dict[str, str] = {}
    for page in PAGES:
        blocks = [block for section in page.sections for block in page.commands(section.heading)]
        for block in [*blocks, *(cause.command for cause in page.causes if cause.command)]:
            for line in block.splitlines():
                if not line.startswith(IN_A_CLUSTER):
                    found.setdefault(line, page.name)
    return found


def asked(page: Runbook) -> list[str]:
    """All that a page asks."""
    queries = [evidence.promql for evidence in page.evidence] + [cause.promql for cause in page.causes if cause.promql]
    return [*queries, *(query for section in page.sections for query in page.queries(section.heading))]


@pytest.fixture(scope="module")
def ground(watched: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A copy of what commands read. What they change is the canary, which gets back what it served."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("observability", "runbooks", "services"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)
    (folder / "labels.csv").write_text("request_id,label,observed_at\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = watched.stack.folder.parent
    environment = {**os.environ, "PATH": path, "SLIPWAY_HOME": str(home), "NO_COLOR": "1"}
    told = brief(watched.prometheus, EVERY["SlipwaySLOFastBurn"], {"service": "churn"}, time.time())
    people = {"server": watched.server_urls["churn"], "capture": str(watched.captured), "model": "churn"}
    people |= {"alertmanager": watched.alertmanager_url, "alertname": "SlipwaySLOFastBurn"}
    instance = watched.prometheus.url.removeprefix("http://")
    ground = Ground(folder, environment, {**told.values, **people, "instance": instance})
    assert ground.values["admin"] == watched.admin_urls["churn-canary"]
    yield ground
    back = ground.run(fill("slipway swap $release --admin $admin", ground.values, into="sh"))
    assert back.returncode == 0, back.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_question_of_a_page_is_answered(watched: Any, page: Runbook, record_property: Any) -> None:
    """A query that Prometheus refuses is an error; no series is an answer, and evidence says what it means."""
    values = {"service": "churn", "slo": "churn-availability", "instance": "127.0.0.1:1", "model": "churn"}
    values |= {"alertname": "SlipwaySLOFastBurn"}

    found = [watched.prometheus.instant(fill(query, values, into="promql")) for query in asked(page)]

    record_property("queries", len(found))
    record_property("with_data", sum(bool(samples) for samples in found))
    assert len(found) >= 4
    assert all(evidence.empty for evidence in page.evidence)


def test_every_page_has_an_answer_under_this_load(watched: Any) -> None:
    """What is silent under this load is about faults that are not there; a name that nobody exports is silent too."""
    silent = []
    for page in PAGES:
        services = ("churn", "moody") if "service" in "".join(map(str, page.evidence)) else ("churn",)
        briefs = [brief(watched.prometheus, page, {"service": service}, time.time()) for service in services]
        if not any(answer.rows for one in briefs for answer in one.answers):
            silent.append(page.name)

    assert silent == []


@pytest.mark.parametrize("command", typed(), ids=lambda command: command.replace("/", "."))
def test_every_command_of_the_pages_runs_as_it_is_written(ground: Ground, command: str) -> None:
    done = ground.run(fill(command, ground.values, into="sh"))

    said = f"{typed()[command]}: {command}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in SAYS_NO.get(command, {0}), said
    assert command.split(maxsplit=1)[0] in PROGRAMS


def test_what_the_pages_name_is_known_live_or_only_to_people(ground: Ground, watched: Any) -> None:
    told = brief(watched.prometheus, EVERY["SlipwaySLOFastBurn"], {"service": "churn"}, time.time())

    known = told.values.keys() | {"release", "previous"}  # by now the canary serves a folder, which has no digest
    on_pages = frozenset[str]().union(*(names_in(command) for command in typed()))
    assert on_pages - known <= {"server", "capture", "alertmanager"}
    assert on_pages <= ground.values.keys()


def test_the_first_minute_names_the_service_the_objective_and_the_cause(watched: Any) -> None:
    """churn's canary refuses what is to be answered within 0.05 ms: the page that this leads to says so."""
    told = brief(watched.prometheus, EVERY["SlipwaySLOFastBurn"], {"service": "churn"}, time.time())

    assert told.state == "firing"
    assert told.since is not None
    assert watched.since - 5 <= told.since <= time.time()
    assert (told.service, told.slo, told.severity) == ("churn", "churn-availability", "page")
    assert {release.track for release in told.releases} == {"stable", "canary"}
    assert told.budgets[0].slo == "churn-availability"
    assert told.budgets[0].left_ratio is not None
    assert told.budgets[0].left_ratio < 1
    assert told.top_error is not None
    assert told.top_error.startswith("/predict answers 5")
    assert told.likely is not None
    assert told.likely.name == "the canary"
    assert told.likely.command is not None
    assert f"--admin {told.values['admin']}" in told.likely.command
    assert told.values["admin"] == watched.admin_urls["churn-canary"]
    assert told.previous is not None
    assert told.previous.track == "stable"
    assert told.previous.digest in told.likely.command
    assert told.problems == ()


def test_another_service_has_another_cause(watched: Any) -> None:
    told = brief(watched.prometheus, EVERY["SlipwayRetryStorm"], {"service": "moody"}, time.time())

    assert told.likely is not None
    assert told.likely.name == "the peer is overloaded or broken"
    assert "neighbour" in told.likely.why


def test_the_command_shows_what_fires_and_opens_the_page(ground: Ground, watched: Any) -> None:
    where = {"prometheus": watched.prometheus.url, "alertmanager": watched.alertmanager_url}
    options = "--prometheus $prometheus --alertmanager $alertmanager"

    firing = ground.run(fill(f"slipway oncall {options}", where, into="sh"))
    data = ground.run(fill(f"slipway oncall --json {options}", where, into="sh"))
    opened = ground.run(fill(f"slipway oncall SlipwaySLOFastBurn --service churn {options}", where, into="sh"))

    assert firing.returncode == 0, firing.stderr
    first = [line for line in firing.stdout.splitlines() if "SlipwaySLOFastBurn" in line]
    assert first, firing.stdout
    assert first[0].startswith("page")
    found = json.loads(data.stdout)["firing"]
    quiet = [one["quiet_because"] for one in found if one["alert"]["labels"]["severity"] == "ticket"]
    assert any("tells it already" in str(because) for because in quiet), firing.stdout
    assert opened.returncode == 0, opened.stderr
    assert "likely  the canary" in opened.stdout
    assert "Mitigation" in opened.stdout


def test_a_post_mortem_tells_what_was_served_and_what_fired(ground: Ground, watched: Any) -> None:
    """And what the canary changed against stable, training data included."""
    command = "slipway postmortem new churn --since 30m --prometheus $prometheus --from-bundle $previous"
    command += " --to-bundle $release --out whole.txt"

    done = ground.run(fill(command, ground.values, into="sh"))

    page = (ground.folder / "whole.txt").read_text()
    assert done.returncode == 0, done.stderr
    assert "| alert | SlipwaySLOFastBurn (page, churn-availability" in page
    assert f"({ground.values['release'][:19]}, canary) is served" in page
    assert "| churn-availability |" in page
    assert "Which routes and statuses failed?\n  - " in page
    assert "Not compared" not in page
