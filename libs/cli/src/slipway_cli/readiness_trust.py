"""Before production, trust: what may be served, and who may call it.

It reads `policy.toml` and `[runtime.access]` and judges no bundle: which one goes to production is not known here, and
`slipway policy check REF` judges that one. The invariant: what a team may decide otherwise is advice.
"""

from collections.abc import Iterator
from typing import Final

from slipway_bundle.config import ServiceConfig
from slipway_bundle.policy import find_policy, load_policy
from slipway_cli.readiness import Item, attempt
from slipway_serve.config import RuntimeConfig

__all__ = ["check_caller", "check_trust"]

WRITE_POLICY: Final = "write [signatures] and [vulnerabilities] into policy.toml, see docs/policy.md"
ASK: Final = "write keys or jwt into [runtime.access], see docs/access.md"


def check_trust(config: ServiceConfig) -> Iterator[Item]:
    """Whether a policy asks who signed a bundle, and what is known to be wrong with it."""
    yield attempt("policy", lambda: _policy(config), "slipway policy explain")


def _policy(config: ServiceConfig) -> Item:
    place = find_policy(config.folder)
    if place is None:
        return Item("policy", "advice", "there is no policy.toml: anybody's bundle may be served", WRITE_POLICY)
    policy = load_policy(place)
    asked = {"who signed it": policy.signatures, "what is known to be wrong with it": policy.vulnerabilities}
    unasked = [question for question, table in asked.items() if table is None]
    if unasked:
        return Item("policy", "advice", f"policy.toml does not ask {' and '.join(unasked)}", WRITE_POLICY)
    return Item("policy", "ok", "policy.toml asks who signed a bundle and what is known to be wrong with it")


def check_caller(runtime: RuntimeConfig) -> Item:
    """Whether callers must say who they are, and how many requests one of them may make."""
    access = runtime.access
    knows = [name for name, given in (("API keys", access.keys), ("JWT", access.jwt)) if given is not None]
    if runtime.server.tls_client_ca is not None:
        knows.append("client certificates")
    if not knows:
        return Item("access", "advice", "whoever reaches the port may call: fine behind a gateway that asks", ASK)
    limited = "limited each" if access.has_limits else "none of them limited"
    return Item("access", "ok", f"callers are known by {', '.join(knows)}; {limited}")
