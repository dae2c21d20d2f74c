"""The verdict service: what a rollout asks before it gives a candidate more traffic.

It measures nothing. The gate writes evidence, whoever ran it posts it here, and a rollout asks for the verdict of its
stage. Names are imported from the modules: who posts or asks needs no web framework.
"""
