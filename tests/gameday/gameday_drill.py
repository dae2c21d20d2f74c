"""One fault, from its injection to its end: who is told what, and what the playbook does about it.

A `Rehearsal` runs the commands of a page in `runbooks/` as they are written, with the names filled in as for the person
on call, and asks the queries of the page of the live Prometheus. It knows no fault: a drill injects one. Times are
those of the wall; alerts' windows are divided by the stack's scale.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from alert_stack import AlertStack, eventually
from msgspec import Struct

from slipway_signals.runbooks import fill, load_runbook
from slipway_signals.slo.durations import duration_text, parse_duration

ROOT = Path(__file__).resolve().parents[2]
COMMAND_S = 120
WINDOW = re.compile(r"(\[|\boffset )(\d+[smhdw])")
"""Of a query; the drill's stack has them shorter, like those of the rules."""

TOLD = 'ALERTS{alertstate="firing",severity=~"page|ticket",alertname!="SlipwayWatchdog"}'


class Outcome(Struct, frozen=True, kw_only=True):
    """What a drill showed; a line of the table at the end."""

    fault: str
    playbook: str
    alert: str
    """That had to be told."""

    told: tuple[str, ...]
    """Every alert about the service that somebody was told of between injection and resolution."""

    kept_back: tuple[str, ...]
    """Alerts that fired meanwhile and were inhibited, or were not told before they ended."""

    monitoring: tuple[str, ...]
    """What was told about the monitoring itself meanwhile; that rules are late means: too small a machine."""

    cause: str
    """The first of the playbook's causes that held while the fault was there."""

    detect_s: float
    """From the injection to the message."""

    mitigate_s: float
    """From the message to the end of the playbook's last command, those of the diagnosis included."""

    resolve_s: float
    """From there to the message that it is over."""

    scale: float
    """Windows and waits of the rules were divided by it."""


class Rehearsal:
    """One drill.

    Args:
        fault: `F6 retry storm`.
        playbook: Name of its page, without `playbook-`.
        stack: That watches the service.
        values: What the names on the page stand for (`runbooks/README.md` lists them).
        home: `$SLIPWAY_HOME` of the commands.
        env: What else the commands find in their environment.
    """

    def __init__(
        self,
        fault: str,
        playbook: str,
        stack: AlertStack,
        values: Mapping[str, str],
        home: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._fault, self._stack, self._values = fault, stack, dict(values)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "SLIPWAY_HOME": str(home), **(env or {})}
        self._page = load_runbook(ROOT / "runbooks" / f"playbook-{playbook}.md")
        self._cause = "none"
        self.settle()
        self._heard = len(stack.received())
        self._began = self._told_at = self._mitigated_at = time.monotonic()

    def settle(self, timeout_s: float = 60) -> None:
        """Wait until nothing fires and everybody knows; raises AssertionError after `timeout_s`."""
        up = f'count(up{{service="{self._values["service"]}"}} == 1)'
        self._stack.until(up)
        is_quiet = eventually(lambda: not self._stack.query(TOLD) and not self._open(), timeout_s)
        assert is_quiet, f"something fires before the fault\n{self._stack.said()}"

    def inject(self, begin: Callable[[], object], alert: str, timeout_s: float = 120) -> dict[str, Any]:
        """Begin the fault and wait until the alert is told; returns it."""
        self._began = time.monotonic()
        begin()
        found = self._stack.wait_for(alert, service=self._values["service"], after=self._heard, timeout=timeout_s)
        self._told_at = time.monotonic()
        self._alert = alert
        return found

    def know(self, **values: str) -> None:
        """What a person has found out meanwhile."""
        self._values |= values

    def diagnose(self) -> str:
        """Ask all that the page asks and run what it runs to find out; returns the first cause that holds."""
        for evidence in self._page.evidence:
            self._ask(evidence.promql)
        for query in self._page.queries("Diagnosis"):
            self._ask(query)
        for command in self._page.commands("Diagnosis"):
            self._run(command)
        for cause in self._page.causes:
            if cause.promql is None or self._ask(cause.promql):
                self._cause = cause.name
                break
        return self._cause

    def mitigate(self) -> None:
        """Run the commands below the page's Mitigation, in their order, as they are written."""
        commands = self._page.commands("Mitigation")
        assert commands, f"{self._page.name} mitigates nothing"
        for command in commands:
            self._run(command)
        self._mitigated_at = time.monotonic()

    def resolve(self, timeout_s: float = 120) -> Outcome:
        """Wait until it is told that the alert is over, and until what the page verifies holds."""
        service = self._values["service"]
        self._stack.wait_for(self._alert, "resolved", service=service, after=self._heard, timeout=timeout_s)
        assert eventually(lambda: not self._open(), 30), f"not all is over\n{self._stack.said()}"
        resolved_at = time.monotonic()
        for query in self._page.queries("Verify"):
            self._stack.until(self._scaled(query), 30)
        for command in self._page.commands("Verify"):
            self._run(command)
        said = [alert["labels"] for one in self._messages() for alert in one.alerts if is_firing(alert)]
        told = {labels["alertname"] for labels in said if labels["service"] == service}
        window = f"{time.monotonic() - self._began:.0f}s"
        held = self._stack.query(f"last_over_time({TOLD}[{window}])")
        fired = {labels["alertname"] for labels, _ in held if labels["service"] == service}
        return Outcome(
            fault=self._fault,
            playbook=self._page.name,
            alert=self._alert,
            told=tuple(sorted(told)),
            kept_back=tuple(sorted(fired - told)),
            monitoring=tuple(sorted({labels["alertname"] for labels in said if labels["service"] != service})),
            cause=self._cause,
            detect_s=self._told_at - self._began,
            mitigate_s=self._mitigated_at - self._told_at,
            resolve_s=resolved_at - self._mitigated_at,
            scale=self._stack.scale,
        )

    def _ask(self, promql: str) -> list[tuple[dict[str, str], float]]:
        return self._stack.query(self._scaled(promql))

    def _scaled(self, promql: str) -> str:
        def shorter(found: re.Match[str]) -> str:
            return found[1] + duration_text((parse_duration(found[2]) or 0) / self._stack.scale)

        return WINDOW.sub(shorter, fill(promql, self._values, into="promql"))

    def _messages(self) -> list[Any]:
        return [one for one in self._stack.received()[self._heard :] if one.receiver != "/watchdog"]

    def _open(self) -> set[str]:
        """Fingerprints of what was told as firing, and not yet as resolved."""
        found: dict[str, bool] = {}
        for one in self._stack.received():
            if one.receiver != "/watchdog":
                found |= {alert["fingerprint"]: is_firing(alert) for alert in one.alerts}
        return {name for name, is_open in found.items() if is_open}

    def _run(self, command: str) -> None:
        filled = fill(command, self._values, into="sh")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", filled],
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, f"{filled}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}"


def is_firing(alert: Mapping[str, Any]) -> bool:
    """Of an alert in a message."""
    return bool(alert["status"] == "firing")


def check_outcome(outcome: Outcome, cause: str, record: Callable[[str, object], None], *also: str) -> None:
    """The alert and only it (and `also`) was told, and the page found the cause; `record` keeps the table's line."""
    record("gameday", msgspec.to_builtins(outcome))
    assert outcome.told == tuple(sorted((outcome.alert, *also))), outcome
    assert outcome.cause == cause, outcome
