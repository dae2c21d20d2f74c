"""What each route asks: rules, what models inherit under the protocol, and rules that protect nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from serve_folders import write_minimal

from slipway_bundle import ConfigError, load_service, open_folder
from slipway_serve.access.door import Door
from slipway_serve.access.rules import GRPC, Rule, Rules, rules_of
from slipway_serve.agreement import check_agreement
from slipway_serve.config import RuntimeConfig, load_runtime
from slipway_serve.engine import Engine, service_of
from slipway_serve.health import Livez
from slipway_serve.routes import Route, ServerState
from slipway_signals import ServiceMetrics, Slots

NOTHING = Rule("none")
ANY = Rule("any")
SCOPED = Rule("jwt", frozenset({"infer"}))
SERVED = ("/predict", "/v2", "/v2/models/one/infer", "/docs")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("rules")
    return [write_minimal(root / name, name) for name in ("one", "two")]


def engines_of(folders: Sequence[Path], *access: dict[str, Any]) -> list[Engine]:
    """An engine for each table; their routes only, they are not started."""
    made = []
    for folder, table in zip(folders, access, strict=False):
        view = open_folder(folder)
        config, _ = load_runtime({**view.runtime, "access": table}, {}, {})
        slots, _ = Slots.create()
        service = service_of(load_service(view))
        made.append(Engine(service, view, config, ServiceMetrics(slots, service=view.name)))
    return made


def asked(engines: Sequence[Engine], template: str, *, is_grpc: bool = False) -> Rule:
    return rules_of(engines, "any", is_grpc=is_grpc).of(template)


def test_a_route_without_a_rule_asks_as_everywhere_and_probes_for_nothing(folders: list[Path]) -> None:
    engines = engines_of(folders, {})

    assert {asked(engines, path) for path in (*SERVED, "", "/v2/models/other", f"{GRPC}ModelInfer")} == {ANY}
    for probe in ("/livez", "/readyz", "/v2/health/ready", f"{GRPC}ServerLive"):
        assert asked(engines, probe) == Rule("none", is_probe=True)
    assert asked(engines, "/static/pages.css") == NOTHING


def test_a_rule_of_a_models_path_holds_for_the_model_over_the_protocol_and_grpc(folders: list[Path]) -> None:
    engines = engines_of(folders, {"routes": {"/predict": {"require": "jwt", "scopes": ["infer"]}}})

    for path in ("/predict", "/v2/models/one/infer", "/v2/models/one/versions/1/infer", "/v2/models/one"):
        assert asked(engines, path) == SCOPED
    assert asked(engines, f"{GRPC}ModelInfer", is_grpc=True) == SCOPED
    assert asked(engines, f"{GRPC}ModelStreamInfer", is_grpc=True) == SCOPED
    assert asked(engines, "/v2") == ANY


def test_the_longest_rule_that_fits_holds_and_an_exact_one_before_all(folders: list[Path]) -> None:
    routes = {
        "/v2*": {"require": "key"},
        "/v2/models/one/*": {"require": "jwt", "scopes": ["infer"]},
        "/v2/models/one/ready": {"require": "none"},
        "/predict": {"require": "none"},
        "/readyz": {"require": "key"},
    }
    engines = engines_of(folders, {"routes": routes})

    found = {path: asked(engines, path) for path in ("/v2", "/v2/models/one/infer", "/v2/models/one/ready", "/readyz")}

    assert found == {
        "/v2": Rule("key"),
        "/v2/models/one/infer": SCOPED,
        "/v2/models/one/ready": NOTHING,
        "/readyz": Rule("key"),
    }


def test_models_that_ask_for_different_things_need_a_word_about_grpc(folders: list[Path]) -> None:
    tables: tuple[dict[str, Any], ...] = ({"routes": {"/predict": {"require": "none"}}}, {})
    one, two = engines_of(folders, *tables)
    both = [one, two]

    assert asked(both, "/one/predict") == NOTHING
    assert asked(both, "/two/predict") == ANY
    with pytest.raises(ConfigError, match="gRPC has one route"):
        asked(both, "", is_grpc=True)
    spoken = engines_of(folders, {"routes": {**tables[0]["routes"], f"{GRPC}*": {"require": "key"}}}, {})
    assert asked(spoken, f"{GRPC}ModelInfer", is_grpc=True) == Rule("key")


def test_services_of_one_server_agree_about_access_but_for_their_own_routes(folders: list[Path]) -> None:
    def runtime(**access: Any) -> RuntimeConfig:
        return load_runtime({"access": access}, {}, {})[0]

    check_agreement([("one", runtime(routes={"/predict": {}})), ("two", runtime(routes={"/other": {}}))])
    with pytest.raises(ConfigError, match=r"access\.rate_per_s"):
        check_agreement([("one", runtime(rate_per_s=1.0)), ("two", runtime(rate_per_s=2.0))])
    both = engines_of(folders, {"routes": {"/docs": {"require": "none"}}}, {"routes": {"/docs": {"require": "key"}}})
    with pytest.raises(ConfigError, match="/docs"):
        rules_of(both, "any", is_grpc=False)


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ({"/predcit": {"require": "none"}}, "did you mean '/predict'"),
        ({"/v3/*": {"require": "key"}}, "routes are"),
        ({"/livez": {}}, ""),
    ],
)
def test_a_rule_that_fits_no_route_is_refused(folders: list[Path], routes: dict[str, Any], said: str) -> None:
    rules = rules_of(engines_of(folders, {"routes": routes}), "any", is_grpc=False)

    with pytest.raises(ConfigError) as caught:
        rules.check(SERVED, is_grpc=False)

    assert said in str(caught.value.hint)


def door(rules: Rules, config: RuntimeConfig) -> Door:
    slots, _ = Slots.create()
    return Door(
        config.access,
        rules,
        slots,
        has_certificates=False,
        keys=None,
        tokens=None,
        issuer=None,
        usage=None,
        clock=lambda: pytest.fail("nobody has an expiry"),
    )


def test_a_route_that_asks_for_what_nobody_can_have_is_refused(folders: list[Path]) -> None:
    (engine,) = engines_of(folders, {"routes": {"/predict": {"require": "key"}}})
    (scoped,) = engines_of(folders, {"routes": {"/predict": {"scopes": ["infer"]}}})

    for made in (engine, scoped):
        with pytest.raises(ConfigError, match=r"`/predict` asks for"):
            door(rules_of([made], "none", is_grpc=False), made.config).rule("/predict")


def test_a_server_without_access_has_no_entrance_and_its_routes_no_detour(folders: list[Path]) -> None:
    """Off is free: the functions of a route are its own."""
    (engine,) = engines_of(folders, {})
    slots, _ = Slots.create()
    state = ServerState(engine.config.limits, ServiceMetrics(slots, service="one"))

    route = Route("/livez", Livez(), state, 5.0, "GET")

    assert not engine.config.access.is_on(has_certificates=False)
    assert (route._body, route._headers) == (route._read, route._sent)
    assert type(route._end.__self__).__name__ == "Following"  # type: ignore[attr-defined]  # a bound method
