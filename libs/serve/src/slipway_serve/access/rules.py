"""What each route asks of its callers, worked out once at the start.

The invariants: a rule that fits no route is refused, because whoever wrote it believes that it protects something; what
a rule asks of a model's own path it asks of the model under the Open Inference Protocol too, over HTTP and gRPC, unless
that has a rule of its own; probes and the style of pages ask for nothing unless a rule names them.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from slipway_bundle import ConfigError
from slipway_serve.access.config import AccessConfig, Require, RouteRule

if TYPE_CHECKING:
    from slipway_serve.engine import Engine

GRPC: Final = "/inference.GRPCInferenceService/"
PROBES: Final = frozenset(
    {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", f"{GRPC}ServerLive", f"{GRPC}ServerReady"}
)
"""Asked by what starts and watches servers, which holds no keys. gRPC's own health service asks for nothing either."""
GRPC_MODELS: Final = (f"{GRPC}ModelInfer", f"{GRPC}ModelStreamInfer")
"""One route for all models."""
STATIC: Final = "/static/"
"""Style and scripts of slipway's own pages: a page that a rule opens needs them, and they say nothing."""


class Rule(Struct, frozen=True):
    """What one route asks."""

    require: Require
    scopes: frozenset[str] = frozenset()
    is_probe: bool = False
    """Not limited either."""


class Rules:
    """The rules of one server.

    Args:
        config: `[runtime.access]`, of all its services.
        default: what routes without a rule ask for.
        routes: rules by route, or by its beginning and `*`.
        inherited: the same, for routes that `routes` does not name.
    """

    def __init__(
        self,
        config: AccessConfig,
        default: Require,
        routes: Mapping[str, RouteRule],
        inherited: Mapping[str, RouteRule] | None = None,
    ) -> None:
        self._default = Rule(default, frozenset(config.scopes) if default != "none" else frozenset())
        self._routes = dict(routes)
        self._inherited = dict(inherited or {})

    def names(self, template: str) -> bool:
        """Whether a rule was written for this route."""
        return _fitting(self._routes, template) is not None

    def of(self, template: str) -> Rule:
        """What a route asks: by the rule that fits it best, that of its model, or as everywhere."""
        if template in PROBES and template not in self._routes:
            return Rule("none", is_probe=True)
        own = _fitting(self._routes, template) or _fitting(self._inherited, template)
        if own is None and template.startswith(STATIC):
            return Rule("none")
        return self._default if own is None else Rule(own.require or self._default.require, frozenset(own.scopes))

    def check(self, templates: Iterable[str], *, is_grpc: bool) -> None:
        """Compare the rules with the routes that there are.

        Args:
            templates: of the server's HTTP routes, or of gRPC's.
            is_grpc: which of the two.

        Raises:
            ConfigError: a rule fits none of them.
        """
        served = list(templates)
        for path in self._routes:
            if path.startswith(GRPC) != is_grpc:
                continue
            fits = any(t.startswith(path[:-1]) for t in served) if path.endswith("*") else path in served
            if not fits:
                near = difflib.get_close_matches(path, served, 1)
                raise ConfigError(
                    f'`[runtime.access.routes."{path}"]` fits no route of this server',
                    hint=f"did you mean {near[0]!r}?" if near else f"routes are: {', '.join(sorted(served)[:20])}",
                )


def _fitting(routes: Mapping[str, RouteRule], template: str) -> RouteRule | None:
    """The rule for exactly this route, or the longest that fits its beginning."""
    if template in routes:
        return routes[template]
    fitting = [path for path in routes if path.endswith("*") and template.startswith(path[:-1])]
    return routes[max(fitting, key=len)] if fitting else None


def rules_of(engines: "Sequence[Engine]", default: Require, *, is_grpc: bool) -> Rules:
    """The rules of a server that serves these engines.

    Args:
        engines: their `[runtime.access]` agree, but for `routes`, which each writes for its own paths.
        default: what routes without a rule ask for.
        is_grpc: whether models can be asked over gRPC.

    Raises:
        ConfigError: two services write different rules for one route; models differ in what gRPC would ask for.
    """
    routes: dict[str, RouteRule] = {}
    for engine in engines:
        own = {declared.path for declared in engine.service.declared}
        for path, rule in engine.config.access.routes.items():
            template = f"{_prefix(engine, engines)}{path}" if path in own else path
            if routes.setdefault(template, rule) != rule:
                raise ConfigError(
                    f'services of one server differ in `[runtime.access.routes."{path}"]`, expected one rule',
                    hint="write the same into both, or serve them in two processes",
                )
    rules = Rules(engines[0].config.access, default, routes)
    inherited = _inherited(engines, rules)
    if is_grpc and any(not rules.names(template) for template in GRPC_MODELS):
        inherited |= _over_grpc(inherited)
    return Rules(engines[0].config.access, default, routes, inherited)


def _inherited(engines: "Sequence[Engine]", rules: Rules) -> dict[str, RouteRule]:
    """Rules of models' own paths, for the same models under the protocol."""
    found: dict[str, RouteRule] = {}
    for engine in engines:
        models = [(model.name, model.path) for model in engine.service.models.values()]
        streams = [(stream.name, stream.path) for stream in engine.service.streams.values()]
        for name, path in (*models, *streams):
            base = f"/v2/models/{name}"
            is_own = path is not None and not rules.names(f"{base}/infer")
            rule = rules.of(f"{_prefix(engine, engines)}{path}" if is_own else f"{base}/infer")
            if path is not None or name in engine.config.publish:
                found |= dict.fromkeys((base, f"{base}/*"), RouteRule(require=rule.require, scopes=tuple(rule.scopes)))
    return found


def _over_grpc(models: Mapping[str, RouteRule]) -> dict[str, RouteRule]:
    """The rule that all models have, for the methods that serve them all.

    Raises:
        ConfigError: they have several.
    """
    rules = list(models.values())
    for path, rule in models.items():
        if (rule.require, set(rule.scopes)) != (rules[0].require, set(rules[0].scopes)):
            raise ConfigError(
                f"models ask for different things, `{next(iter(models))}` and `{path}` do, and gRPC has one route for "
                "all of them",
                hint=f'write `[runtime.access.routes."{GRPC}*"]`, or leave gRPC off',
            )
    return dict.fromkeys(GRPC_MODELS, rules[0]) if rules else {}


def _prefix(engine: "Engine", engines: "Sequence[Engine]") -> str:
    return "" if len(engines) == 1 else f"/{engine.service.name}"
