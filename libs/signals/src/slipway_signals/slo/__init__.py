"""Service level objectives: one `slo.yaml` a service becomes rules, tested alerts, routes and facts.

`openslo.load_slos` reads, `compile.compile_all` writes, `build` keeps the files; a server asks `openslo.thresholds_s`.
No names are imported here, so that a server which asks for thresholds brings along no compiler: docs/slo.md.
"""
