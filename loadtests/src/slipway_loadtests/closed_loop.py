"""Users that wait for their answer and then think: a closed loop, for what is one, such as a batch client.

    locust -f loadtests/src/slipway_loadtests/closed_loop.py --plan plan.toml --headless --users 20 --run-time 1m

Inputs, mix and scenarios are the plan's; rate and shape are not asked, because the server sets the pace: it is asked
less while it is slow, so a stall is met once by each user instead of by everybody who came meanwhile. Never judge a
release by it (docs/load.md shows the difference). It writes no windows.
"""

import itertools
import os
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, events, task

from slipway_loadtests.fetching import fetch_document
from slipway_loadtests.payloads import Payload, load_payloads
from slipway_signals.gate.load_plan import LoadPlan, decode_plan

SYNTHETIC = {"X-Slipway-Synthetic": "1", "Content-Type": "application/json"}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust types its events little
def _add_options(parser: Any, **_: object) -> None:
    parser.add_argument("--plan", env_var="SLIPWAY_LOAD_PLAN", required=True, help="The load plan: TOML or JSON")


class Thinking(FastHttpUser):
    """One user of the stable arm: asks, reads the answer, thinks, asks again."""

    host = "the plan's"
    plan: LoadPlan
    payloads: "itertools.cycle[Payload]"

    def __init__(self, environment: Any) -> None:
        if not hasattr(Thinking, "plan"):
            _read(Path(environment.parsed_options.plan))
        self.network_timeout = self.connection_timeout = self.plan.timeout_s
        super().__init__(environment)

    def wait_time(self) -> float:
        """The plan's `think_s`."""
        pause: float = between(*self.plan.think_s)(self)
        return pause

    @task
    def ask(self) -> None:
        """One input."""
        payload = next(self.payloads)
        with self.client.post(
            payload.path, data=payload.body.decode(), headers=self.proof, catch_response=True, name=payload.path
        ) as answer:
            if payload.kind == "invalid" and 400 <= answer.status_code < 500:
                answer.success()

    @property
    def proof(self) -> dict[str, str]:
        """Headers of each request."""
        name = self.plan.arms["stable"].key_env
        key = os.environ.get(name) if name else None
        return {**SYNTHETIC, **({"Authorization": f"Bearer {key}"} if key else {})}


def _read(path: Path) -> None:
    """Read the plan and make its inputs, once for all users of this process."""
    plan = decode_plan(path.read_bytes(), repr(str(path)))
    stable = plan.arms["stable"]
    key = os.environ.get(stable.key_env) if stable.key_env else None
    Thinking.host = stable.url
    Thinking.payloads = itertools.cycle(load_payloads(plan, lambda: fetch_document(stable.url, key)))
    Thinking.plan = plan
