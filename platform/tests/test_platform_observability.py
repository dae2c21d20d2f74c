"""What watches all services, as objects: what the repository has, with the addresses of a cluster."""

import json

import pytest
import yaml
from platform_runs import CLUSTER, opened, run_project
from service_stacks import ROOT, objects

from slipway_platform.observability.objects import ReceiverUnknownError

MEBI = 1024**2


def test_every_dashboard_of_the_repository_is_there_as_it_is() -> None:
    files = {path.stem: json.loads(path.read_text()) for path in (ROOT / "observability/dashboards").glob("*.json")}

    found = {
        name.removeprefix("dashboard-"): json.loads(next(iter(one["data"].values())))
        for (kind, name), one in objects("lab", "observability").items()
        if name.startswith("dashboard-")
    }

    assert found == files
    assert all(len(str(one)) < MEBI for one in objects("lab", "observability").values())


def test_rules_about_the_monitoring_are_those_of_the_repository() -> None:
    groups = yaml.safe_load((ROOT / "observability/rules/monitoring.yaml").read_text())["groups"]

    made = objects("lab", "observability")["PrometheusRule", "slipway-monitoring"]["spec"]["groups"]

    assert made == groups
    assert "SlipwayRolloutsSilent" in {rule["alert"] for group in made for rule in group["rules"]}


def test_data_sources_are_the_clusters() -> None:
    text = objects("example", "observability")["ConfigMap", "slipway-datasources"]["data"]["slipway.yaml"]

    urls = {one["uid"]: one["url"] for one in yaml.safe_load(text)["datasources"]}

    assert urls == {
        "prometheus": "http://prometheus-operated.monitoring.svc:9090",
        "tempo": "http://tempo-query.monitoring.svc:3200",
        "alertmanager": "http://alertmanager-operated.monitoring.svc:9093",
    }


def test_receivers_are_told_where_the_stack_says() -> None:
    text = objects("example", "observability")["Secret", "slipway-alertmanager"]["stringData"]["alertmanager.yaml"]

    urls = [hook["url"] for one in yaml.safe_load(text)["receivers"] for hook in one.get("webhook_configs", [])]

    assert urls
    assert all(url.startswith("http://alerts.example.com:9099/") for url in urls)


def test_an_address_that_is_a_secret_is_in_a_file_and_not_in_the_configuration() -> None:
    config = {
        "slipway-observability:cluster": CLUSTER,
        "slipway-observability:receivers": {"page-team-churn": "https://pager.example.com/s3cret"},
    }

    run = run_project("observability", config, secrets=("slipway-observability:receivers",))

    found = {one.inputs["metadata"]["name"]: opened(one.inputs)["stringData"] for one in run.of("core/v1:Secret")}
    receivers = yaml.safe_load(found["slipway-alertmanager"]["alertmanager.yaml"])["receivers"]
    (hook,) = next(one for one in receivers if one["name"] == "page-team-churn")["webhook_configs"]
    assert hook["url_file"] == "/etc/alertmanager/secrets/slipway-receivers/page-team-churn"
    assert "s3cret" not in found["slipway-alertmanager"]["alertmanager.yaml"]
    assert found["slipway-receivers"] == {"page-team-churn": "https://pager.example.com/s3cret"}


def test_a_receiver_that_no_route_has_is_refused() -> None:
    config = {
        "slipway-observability:cluster": CLUSTER,
        "slipway-observability:receivers": {"page-nobody": "https://pager.example.com"},
    }

    with pytest.raises(ReceiverUnknownError, match="'page-nobody', expected one of"):
        run_project("observability", config, secrets=("slipway-observability:receivers",))
