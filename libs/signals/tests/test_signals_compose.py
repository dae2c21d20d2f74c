"""`observability/compose.yaml` without Docker: what can be known of its files before somebody starts them."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from slo_files import ROOT

FOLDER = ROOT / "observability"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def load(path: str) -> Any:
    """One of the files that it mounts."""
    return yaml.safe_load((FOLDER / path).read_text())


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", SERVICES[name]["image"])


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for mount in service["volumes"]:
            source, target = mount.split(":")[:2]
            if source.startswith("."):
                assert (FOLDER / source).is_dir(), mount
                assert mount.endswith(":ro"), mount
            else:
                assert source in COMPOSE["volumes"], mount
            assert target.startswith("/")


def test_what_a_program_is_told_to_read_is_mounted() -> None:
    """Each path under /etc in a command or a configuration is a file or folder of the repository."""
    for name, service in SERVICES.items():
        mounts = {target: FOLDER / source for source, target, *_ in (one.split(":") for one in service["volumes"])}
        told = [*service.get("command", []), *map(str, service.get("environment", {}).values())]
        told += [path.read_text() for path in _configurations(name)]
        for path in re.findall(r"/etc/[\w./*-]+", "\n".join(map(str, told))):
            [within] = [target for target in mounts if path.startswith(target)]
            assert list(mounts[within].glob(path.removeprefix(within).lstrip("/") or "*")), f"{name}: {path}"


def test_everything_listens_on_the_loopback_interface_only() -> None:
    """The host's network is shared: an address without a host would be everybody's."""
    told = [line for service in SERVICES.values() for line in map(str, service.get("command", []))]
    told += [path.read_text() for name in SERVICES for path in _configurations(name)]
    listening = re.findall(r"(?:listen-address=|listen_address: *|endpoint: *|HTTP_ADDR: *)([^\s}#]*)", "\n".join(told))

    assert len(listening) >= 8
    assert {one.partition(":")[0] for one in listening if one} == {"127.0.0.1"}
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert not [name for name, service in SERVICES.items() if "ports" in service]


def test_no_two_listen_on_one_port() -> None:
    own = ["9090", "9093", SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_PORT"]]
    tempo, collector = load("tempo/tempo.yaml"), load("collector/collector.yaml")
    own += [str(tempo["server"][f"{kind}_listen_port"]) for kind in ("http", "grpc")]
    for holder in (tempo["distributor"], collector):
        own += [one["endpoint"].rpartition(":")[2] for one in holder["receivers"]["otlp"]["protocols"].values()]

    assert len(own) == len(set(own))


def test_each_part_sends_to_where_the_next_listens() -> None:
    tempo, collector = load("tempo/tempo.yaml"), load("collector/collector.yaml")
    sources = {one["uid"]: one for one in load("grafana/provisioning/datasources/slipway.yaml")["datasources"]}
    prometheus = load("prometheus/prometheus.yaml")

    taken = {one["endpoint"] for one in tempo["distributor"]["receivers"]["otlp"]["protocols"].values()}
    assert collector["exporters"]["otlp"]["endpoint"] in taken
    assert sources["tempo"]["url"].endswith(f":{tempo['server']['http_listen_port']}")
    assert f"--web.listen-address={sources['prometheus']['url'].removeprefix('http://')}" in _command("prometheus")
    assert f"--web.listen-address={sources['alertmanager']['url'].removeprefix('http://')}" in _command("alertmanager")
    [told] = [one["targets"] for one in prometheus["alerting"]["alertmanagers"][0]["static_configs"]]
    assert f"--web.listen-address={told[0]}" in _command("alertmanager")


def test_every_name_in_the_collector_and_in_the_data_sources_is_defined() -> None:
    collector = load("collector/collector.yaml")
    sources = {one["uid"]: one for one in load("grafana/provisioning/datasources/slipway.yaml")["datasources"]}

    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])
    [follows] = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert follows["datasourceUid"] in sources
    assert sources["tempo"]["jsonData"]["tracesToMetrics"]["datasourceUid"] in sources


def test_jobs_are_called_what_the_alerts_ask() -> None:
    jobs = {one["job_name"] for one in load("prometheus/prometheus.yaml")["scrape_configs"]}

    assert jobs >= {"prometheus", "alertmanager"}
    assert all({"service", "track"} <= set(one["labels"]) for one in load("prometheus/targets.yaml"))


@pytest.mark.needs("promtool", "amtool")
def test_promtool_and_amtool_take_the_configurations(tmp_path: Path) -> None:
    """With the container's paths turned into those of the repository."""
    text = (FOLDER / "prometheus" / "prometheus.yaml").read_text()
    for inside, outside in (("/etc/slipway/rules", "rules"), ("/etc/prometheus", "prometheus")):
        text = text.replace(inside, str(FOLDER / outside))
    path = tmp_path / "prometheus.yaml"
    path.write_text(text)

    for command in (
        ["promtool", "check", "config", str(path)],
        ["amtool", "check-config", str(FOLDER / "alertmanager" / "alertmanager.yaml")],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def _configurations(name: str) -> list[Path]:
    """What is mounted below /etc for one of them, and written for this file."""
    folders = {"prometheus": "prometheus", "tempo": "tempo", "collector": "collector", "grafana": "grafana"}
    return sorted((FOLDER / folders[name]).rglob("*.yaml")) if name in folders else []


def _command(name: str) -> list[str]:
    return list(SERVICES[name]["command"])
