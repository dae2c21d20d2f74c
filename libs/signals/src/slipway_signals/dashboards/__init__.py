"""Dashboards as files: `building` makes them, `reading` understands them, `observability/dashboards/` holds them.

One file is both what Grafana shows and what `slipway console` shows, so there is one set of queries.
"""
