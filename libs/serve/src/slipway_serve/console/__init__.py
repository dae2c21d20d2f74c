"""`slipway console`: what fires, whom it hurts and what to do, as pages; the dashboards without a Grafana.

It only reads: Prometheus, Alertmanager, `observability/dashboards/` and `runbooks/`. Nothing can be changed through it.
"""

from slipway_serve.console.app import serve_console
from slipway_serve.console.sources import ConsoleOptions

__all__ = ["ConsoleOptions", "serve_console"]
