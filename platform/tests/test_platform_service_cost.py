"""What a service costs: refused above its cap, told to its pods, recorded for each release."""

import subprocess
from pathlib import Path

import pytest
import yaml
from service_stacks import churn, objects, settings

from slipway_platform.services.cost import COST_SERIES, check_spend, usd_per_hour
from slipway_platform.services.settings import StackRefusedError

PRICES = {"usd_per_cpu": 0.04, "usd_per_gib": 0.005}


def test_a_replica_costs_its_processors_memory_and_gpus() -> None:
    stack = settings(churn(cpu="500m", memory="2Gi", gpu={"count": 2}), prices={**PRICES, "usd_per_gpu": 1.0})

    assert usd_per_hour(stack.services[0], stack.prices) == pytest.approx(0.02 + 0.01 + 2.0)


def test_a_price_that_is_told_goes_before_one_that_is_computed() -> None:
    stack = settings(churn(usd_per_hour=1.5), prices=PRICES)

    assert usd_per_hour(stack.services[0], stack.prices) == 1.5


def test_caps_of_all_services_are_added_up() -> None:
    stack = settings(
        churn(usd_per_hour=1.0), churn(name="other", hpa={"max_replicas": 3}, usd_per_hour=2.0), usd_per_hour_cap=12.0
    )

    assert check_spend(stack) == 12.0


def test_what_could_cost_more_than_was_agreed_to_is_refused_with_the_sum() -> None:
    stack = settings(churn(usd_per_hour=1.0), usd_per_hour_cap=5.0)

    with pytest.raises(StackRefusedError, match=r"6\.00 USD an hour \(churn 6 x 1\), expected at most 5\.00"):
        check_spend(stack)


def test_a_cap_without_prices_is_refused() -> None:
    stack = settings(churn(), usd_per_hour_cap=5.0)

    with pytest.raises(StackRefusedError, match="the price of 'churn' is not known"):
        check_spend(stack)


def test_a_pod_is_told_what_it_costs() -> None:
    (container,) = objects("lab")["Rollout", "churn"]["spec"]["template"]["spec"]["containers"]

    assert {"name": "SLIPWAY_COST_USD_PER_HOUR", "value": "0.0145"} in container["env"]


@pytest.mark.needs("promtool")
def test_the_cost_of_a_thousand_inferences_is_recorded_by_release(tmp_path: Path) -> None:
    """Two releases, a price each; tests and probes pay for nothing."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(objects("lab")["PrometheusRule", "slipway-cost"]["spec"]))
    series = [
        one
        for pod, version, usd, rows, probes in (("a", "1.0.0", 0.36, 100, 0), ("b", "2.0.0", 0.72, 100, 50))
        for one in _pod(pod, version, usd, rows, probes)
    ]
    expected = [
        {"labels": _release("a", "1.0.0"), "value": 1000 * 0.36 / 6000},
        {"labels": _release("b", "2.0.0"), "value": 1000 * 0.72 / 3000},
    ]
    case = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": COST_SERIES, "eval_time": "2h", "exp_samples": expected}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [case]}))

    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def _pod(pod: str, version: str, usd: float, rows: int, probes: int) -> list[dict[str, str]]:
    target = f'namespace="shop",service="churn",instance="{pod}",rollouts_pod_template_hash="{pod}{pod}"'
    return [
        {"series": f"slipway_cost_usd_per_hour{{{target}}}", "values": f"{usd}x130"},
        {"series": f'slipway_build_info{{{target},version="{version}",digest="sha256:{pod}"}}', "values": "1x130"},
        {"series": f'slipway_inferences_total{{{target},model="m",result="ok"}}', "values": f"0+{rows}x130"},
        {"series": f'slipway_synthetic_inferences_total{{{target},model="m"}}', "values": f"0+{probes}x130"},
    ]


def _release(pod: str, version: str) -> str:
    release = f'digest="sha256:{pod}",rollouts_pod_template_hash="{pod}{pod}",service="churn",version="{version}"'
    return f"{COST_SERIES}{{{release}}}"
