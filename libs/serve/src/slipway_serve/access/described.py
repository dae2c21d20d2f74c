"""What access adds to the OpenAPI document: how to be let in, and the answers to who is not.

It changes nothing else in it. The invariant: a path that asks for nothing says so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from slipway_serve.access.rules import Rule
from slipway_serve.problems import TITLES

Json = dict[str, Any]

SCHEMES: Final[Mapping[str, Mapping[str, Json]]] = {
    "key": {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "keyAsBearer": {"type": "http", "scheme": "bearer", "description": "The same key"},
    },
    "jwt": {"jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    "certificate": {"certificate": {"type": "mutualTLS"}},
}
"""Kind of credentials → its security schemes."""
STATUSES: Final = (401, 403, 429)
PATTERN: Final = "Problem422"
"""The response whose form those of access have."""


def describe(document: Json, rule_of: Callable[[str], Rule], kinds: Sequence[str], models: Sequence[str]) -> None:
    """Add to a document.

    Args:
        document: as `openapi.document_of` made it; changed in place.
        rule_of: what a route asks.
        kinds: of credentials, which callers can have.
        models: names that the protocol's `{name}` stands for.
    """
    components = document["components"]
    components["securitySchemes"] = {name: scheme for kind in kinds for name, scheme in SCHEMES[kind].items()}
    for form in ("Problem", "Error"):
        pattern = components["responses"][PATTERN.replace("Problem", form)]
        for status in STATUSES:
            headers = {"Retry-After": {"schema": {"type": "integer"}}} if status == 429 else {}
            made = {**pattern, "description": TITLES[status], **({"headers": headers} if headers else {})}
            components["responses"][f"{form}{status}"] = made
    for path, item in document["paths"].items():
        named = [path.replace("{name}", name).replace("{version}", "1") for name in models] if "{" in path else [path]
        rules = [rule_of(template) for template in named]
        form = "Error" if path.startswith("/v2") else "Problem"
        for method in ("get", "post"):
            if method in item:
                item[method]["security"] = _security(rules, kinds)
                if not all(rule.is_probe for rule in rules):
                    answers = {str(status): {"$ref": f"#/components/responses/{form}{status}"} for status in STATUSES}
                    item[method]["responses"] |= answers


def _security(rules: Sequence[Rule], kinds: Sequence[str]) -> list[dict[str, list[str]]]:
    """The alternatives; empty: nothing is needed."""
    found: dict[str, dict[str, list[str]]] = {}
    for rule in rules:
        if rule.require == "none" and not rule.scopes:
            continue
        for kind in kinds if rule.require in {"any", "none"} else [rule.require]:
            found |= {name: {name: []} for name in SCHEMES[kind]}
    return list(found.values())
