"""The cluster stack: makes a cluster, or names one that is there, and exports what other stacks need to know."""

import msgspec
import pulumi

from slipway_platform.cluster.making import make_cluster
from slipway_platform.cluster.settings import PROJECT, ClusterSettings
from slipway_platform.provider import INFO_OUTPUT, KUBECONFIG_OUTPUT
from slipway_platform.settings import load_settings

cluster = make_cluster(load_settings(ClusterSettings, PROJECT))
pulumi.export(INFO_OUTPUT, msgspec.to_builtins(cluster.info))
pulumi.export(KUBECONFIG_OUTPUT, cluster.kubeconfig)
