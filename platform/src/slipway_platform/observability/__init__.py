"""What watches all services of a cluster: rules, dashboards, data sources, routes of alerts."""
