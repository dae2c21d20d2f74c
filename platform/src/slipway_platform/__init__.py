"""The platform as Pulumi programs: cluster, add-ons, observability, services with their canary pipeline."""
