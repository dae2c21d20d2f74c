"""Admission to a cluster: a webhook that Kubernetes asks before a pod runs, and what makes Kubernetes ask it.

It changes nothing in the cluster. `policy.toml` decides, as it does for `slipway bundle pull` and `slipway serve`.
Names are imported from the modules: who prints the manifests needs no web framework.
"""
