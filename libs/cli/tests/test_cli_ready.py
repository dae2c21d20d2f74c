"""`slipway ready`: the services here pass, and whatever is taken away is named with the way to mend it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_commands import ROOT, Slipway

from slipway_bundle.config import load_config
from slipway_cli.readiness import Item
from slipway_cli.readiness_package import check_package
from slipway_cli.readiness_serving import check_serving
from slipway_cli.readiness_signals import check_signals
from slipway_cli.readiness_trust import check_trust

ITEMS = [
    *("lock", "artefact", "verified", "golden examples", "reference profile", "lineage"),
    *("objectives", "rules", "owner", "runbooks", "panels", "drift hook"),
    *("deadlines", "queues", "memory", "warm-up", "capture", "cost"),
    *("access", "policy"),
]


@pytest.fixture
def repository(churn: Path, tmp_path: Path) -> Path:
    """A repository with churn alone, as it is here."""
    shutil.copytree(churn, tmp_path / "services" / "churn", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    for name in ("observability", "runbooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def signals(repository: Path) -> dict[str, Item]:
    """What the checks of the signals find, by name."""
    return {item.name: item for item in check_signals(repository, repository / "services" / "churn")}


def package(repository: Path, home: Path) -> dict[str, Item]:
    """What the checks of the package find, by name."""
    config = load_config(repository / "services" / "churn")
    return {item.name: item for item in check_package(config, home, lambda _: None)}


def serving(repository: Path, home: Path | None = None) -> dict[str, Item]:
    """What the checks of serving find, by name."""
    config = load_config(repository / "services" / "churn")
    return {item.name: item for item in check_serving(config, home, lambda _: None)}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", ["churn", "documents"])
def test_the_services_of_this_repository_are_ready(
    service: str, churn: Path, slipway: Slipway, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if service == "documents":
        subprocess.run([sys.executable, ROOT / "services" / "documents" / "fetch.py"], check=True, timeout=60)
    monkeypatch.chdir(ROOT)

    said = slipway("ready", service, "--json")

    items = said.document["items"]
    assert [item for item in items if item["status"] == "missing"] == []
    assert (said.status, said.document["ready"], said.document["service"]) == (0, True, service)
    assert [item["name"] for item in items] == ITEMS
    assert [item for item in items if item["status"] != "ok" and not item["fix"]] == []
    assert not home.exists()  # the user's store is neither read nor written


@pytest.mark.slow
def test_what_is_missing_is_shown_with_the_command_that_mends_it(repository: Path, slipway: Slipway) -> None:
    (repository / "runbooks" / "SlipwayColdStarts.md").unlink()
    edit(repository / "services" / "churn" / "slo.yaml", "target: 0.999", "target: 0.995")

    said = slipway("ready", repository / "services" / "churn")

    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert said.status == 1
    assert lines[0].startswith("ok lock ")
    assert "missing runbooks 1 of 45 pages: runbooks/SlipwayColdStarts.md" in lines
    assert "fix: slipway slo build, and commit what it writes" in lines
    assert "churn: 20 items, 2 missing" in said.err
    assert "\x1b" not in said.out


def test_a_name_that_is_no_service_is_told_which_there_are(slipway: Slipway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    said = slipway("ready", "chrun")

    assert said.status == 2
    assert "'chrun'" in said.err
    assert "churn, documents" in said.err


def without_slo(root: Path) -> None:
    (root / "services" / "churn" / "slo.yaml").unlink()


def without_latency(root: Path) -> None:
    path = root / "services" / "churn" / "slo.yaml"
    path.write_text(path.read_text().partition("---")[0])


def with_new_target(root: Path) -> None:
    edit(root / "services" / "churn" / "slo.yaml", "target: 0.99}", "target: 0.98}")


def with_new_owner(root: Path) -> None:
    edit(root / "services" / "churn" / "slo.yaml", "team-churn", "team-nobody-told")


def without_page(root: Path) -> None:
    (root / "runbooks" / "SlipwayShedding.md").unlink()


def with_page_of_another(root: Path) -> None:
    edit(root / "runbooks" / "SlipwayShedding.md", "alert: SlipwayShedding", "alert: SlipwayQueueWait")


def without_dashboard(root: Path) -> None:
    (root / "observability" / "dashboards" / "slipway-drift.json").unlink()


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("spoil", "name", "found", "fix"),
    [
        (without_slo, "objectives", "slo.yaml", "slo"),
        (without_latency, "objectives", "none about latency", "slipway slo build"),
        (with_new_target, "rules", "observability/rules/churn-latency.yaml", "slipway slo build"),
        (with_new_owner, "owner", "team-nobody-told has no route", "slipway slo build"),
        (without_page, "runbooks", "runbooks/SlipwayShedding.md", "write runbooks/SlipwayShedding.md"),
        (with_page_of_another, "runbooks", "runbooks/SlipwayShedding.md", "is about another alert"),
        (without_dashboard, "panels", "SlipwayPredictionDrift", "make regen"),
    ],
)
def test_a_signal_that_is_not_there_is_named(
    repository: Path, spoil: Callable[[Path], None], name: str, found: str, fix: str
) -> None:
    spoil(repository)

    item = signals(repository)[name]

    assert item.status == "missing"
    assert found in item.found
    assert fix in (item.fix or "")


def test_a_receiver_of_ones_own_and_a_drift_hook_need_no_advice(repository: Path) -> None:
    routes = repository / "observability" / "alertmanager" / "alertmanager.yaml"
    edit(routes, "http://alert-webhook:9099", "https://pager.example.com")
    owner = "slipway.dev/owner: team-churn"
    slo = repository / "services" / "churn" / "slo.yaml"
    edit(slo, owner, f"{owner}\n    slipway.dev/retraining: http://hook:9098/alerts")

    found = signals(repository)

    assert (found["owner"].status, found["drift hook"].status) == ("ok", "ok")


def test_a_lock_without_hashes_is_no_lock(repository: Path, tmp_path: Path) -> None:
    lock = repository / "requirements.lock"
    lock.write_text("".join(line for line in lock.read_text().splitlines(keepends=True) if "--hash" not in line))

    found = package(repository, tmp_path / "home")

    assert found["lock"].status == "missing"
    assert "has no hash" in found["lock"].found
    assert "make lock" in (found["lock"].fix or "")
    assert found["artefact"].status == "missing"
    assert "verified" not in found  # there is nothing to verify


@pytest.mark.slow
def test_a_build_that_depends_on_where_it_is_done_is_no_artefact(repository: Path, tmp_path: Path) -> None:
    code = repository / "services" / "churn" / "src" / "churn_service" / "service.py"
    edit(code, "Meta(ge=0, le=10_000)", 'Meta(ge=0, le=10_000 + len(__import__("os").environ.get("TZ", "")))')

    item = package(repository, tmp_path / "home")["artefact"]

    assert item.status == "missing"
    assert item.found.startswith("two builds differ: sha256:")
    assert "bundle diff" in (item.fix or "")


def test_a_model_without_profile_lineage_or_example_is_named(repository: Path, tmp_path: Path) -> None:
    folder = repository / "services" / "churn"
    edit(folder / "slipway.toml", 'lineage = "model/lineage.json"\n', "")
    edit(folder / "slipway.toml", 'reference = "model/reference.json"', "")
    (folder / "golden.jsonl").write_text("")

    found = package(repository, tmp_path / "home")

    lacking = {name for name, item in found.items() if item.status == "missing"}
    assert lacking == {"artefact", "golden examples", "reference profile", "lineage"}
    assert "golden" in found["artefact"].found
    assert found["golden examples"].found == "none for churn"


def test_a_deadline_before_the_promise_and_a_pool_without_ceiling_are_named(repository: Path) -> None:
    toml = repository / "services" / "churn" / "slipway.toml"
    toml.write_text(
        f"{toml.read_text()}\n[runtime.slo.realtime]\ndeadline_ms = 20\n[runtime.models.churn]\npool = {{}}\n"
    )

    found = serving(repository)

    lacking = {name for name, item in found.items() if item.status == "missing"}
    assert lacking == {"deadlines", "memory", "warm-up"}
    assert found["deadlines"].found == "/predict gives up after 0.02 s, before churn-latency (0.05 s)"
    assert "models.churn.pool" in found["memory"].found
    assert "memory_mb" in (found["memory"].fix or "")
    assert "no bundle" in found["warm-up"].found


def test_text_that_capture_would_keep_is_told(repository: Path) -> None:
    folder = repository / "services" / "churn"
    code = folder / "src" / "churn_service" / "service.py"
    edit(code, "from msgspec import Meta, Struct", "from msgspec import Meta, Struct\nfrom slipway_serve import Redact")
    edit(
        code,
        'contract: Literal["monthly", "yearly"]',
        'contract: Literal["monthly", "yearly"]\n    note: Annotated[str, Redact("keep")] = ""',
    )
    toml = folder / "slipway.toml"
    toml.write_text(f'{toml.read_text()}\n[runtime.capture]\nenabled = true\nfolder = "capture"\n')

    item = serving(repository)["capture"]

    assert item.status == "advice"
    assert "churn.note" in item.found


def test_code_that_cannot_be_imported_is_an_item_and_no_traceback(repository: Path) -> None:
    code = repository / "services" / "churn" / "src" / "churn_service" / "service.py"
    code.write_text(f"import not_there\n{code.read_text()}")

    item = serving(repository)["code"]

    assert item.status == "missing"
    assert "not_there" in item.found


@pytest.mark.slow
def test_a_service_that_does_not_become_ready_is_not_ready(repository: Path, tmp_path: Path) -> None:
    toml = repository / "services" / "churn" / "slipway.toml"
    edit(toml, "port = 8000", "port = 8000\nstart_s = 0.01")
    home = tmp_path / "home"
    package(repository, home)

    item = serving(repository, home)["warm-up"]

    assert item.status == "missing"
    assert item.found.startswith("it did not become ready")


def test_a_policy_that_asks_for_less_than_signatures_and_a_scan_is_advice(repository: Path) -> None:
    config = load_config(repository / "services" / "churn")

    (none,) = check_trust(config)
    (repository / "policy.toml").write_text('[vulnerabilities]\nblock = "high"\n')
    (half,) = check_trust(config)
    (repository / "policy.toml").write_text('[vulnerabilities]\nblock = "hihg"\n')
    (broken,) = check_trust(config)

    assert (none.status, half.status, broken.status) == ("advice", "advice", "missing")
    assert "who signed it" in half.found
    assert "hihg" in broken.found


def test_an_open_port_is_advice_and_known_callers_are_fine(repository: Path) -> None:
    toml = repository / "services" / "churn" / "slipway.toml"

    before = serving(repository)["access"]
    toml.write_text(f'{toml.read_text()}\n[runtime.access]\nkeys = "keys.json"\nrate_per_s = 10\n')
    after = serving(repository)["access"]

    assert (before.status, after.status) == ("advice", "ok")
    assert after.found == "callers are known by API keys; limited each"
