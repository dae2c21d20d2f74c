"""The one node of a lab: containerd with runc, the kubelet, the CNI plugins, kube-proxy.

It says how each is started and when it is ready; `cluster.py` does it. The invariant: nothing of the host is changed.
containerd and the kubelet share a mount namespace of their own, in which `/run` and `/var/log` are folders of the lab
and the kernel settings that the kubelet would write are copies. So whatever they mount ends with the last process, and
killing every process cleans up.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from slipway_lab import network
from slipway_lab.control_plane import Trust, answers, kubeconfig
from slipway_lab.processes import HOLDER, Programs, Recipe, environment
from slipway_lab.state import Place
from slipway_lab.system import require

PAUSE_IMAGE: Final = "lab.local/pause:1"
REGISTRY: Final = f"{network.NODE}:5000"
SOCKET: Final = "/run/containerd/containerd.sock"
"""As the node sees it."""
KUBELET_PORT: Final = 10250
CNI_PLUGINS: Final = ("bridge", "loopback", "host-local")
SETTINGS: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet wants below /proc/sys and writes where it differs (k8s.io/component-helpers/node/util/sysctl)."""
HOLD: Final = """\
set -e
mount --bind "$0/run" /run
mount --bind "$0/varlog" /var/log
for setting in "$@"; do mount --bind "$0/settings/$setting" "/proc/sys/$setting"; done
: >"$0/held"
exec sleep infinity
"""


def holder(place: Place) -> Recipe:
    """The process whose mount namespace the node lives in."""
    folder = place.folder / "node"
    for part in ("run", "varlog"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for setting, value in SETTINGS.items():
        (folder / "settings" / setting).parent.mkdir(parents=True, exist_ok=True)
        (folder / "settings" / setting).write_text(f"{value}\n")
    there = [setting for setting in SETTINGS if Path("/proc/sys", setting).exists()]
    command = ("unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", HOLD, str(folder), *there)
    return Recipe(name=HOLDER, command=command)


def is_held(place: Place) -> bool:
    """Whether the mount namespace is as it must be."""
    return (place.folder / "node" / "held").exists()


def containerd(place: Place, programs: Programs) -> Recipe:
    """The container runtime."""
    folder = place.folder / "containerd"
    hosts = folder / "hosts" / REGISTRY
    hosts.mkdir(parents=True, exist_ok=True)
    (hosts / "hosts.toml").write_text(f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\n')
    plugins = _cni(place, programs)
    config = folder / "config.toml"
    config.write_text(
        CONTAINERD.format(
            root=folder / "root",
            socket=SOCKET,
            pause=PAUSE_IMAGE,
            plugins=plugins,
            networks=place.folder / "cni" / "conf",
            hosts=folder / "hosts",
        )
    )
    command = (str(programs["containerd"]), "--config", str(config))
    folders = (programs["containerd-shim-runc-v2"].parent, require("runc").parent)
    return Recipe(name="containerd", command=command, environ=dict(environment(*folders)), within="node")


def is_containerd_ready(place: Place) -> bool:
    """Whether it listens."""
    return socket_of(place).exists()


def socket_of(place: Place) -> Path:
    """containerd's socket, as the host sees it."""
    return place.folder / "node" / SOCKET.lstrip("/")


def kubelet(place: Place, programs: Programs, trust: Trust) -> Recipe:
    """The kubelet."""
    folder = place.folder / "kubelet"
    folder.mkdir(exist_ok=True)
    settings = folder / "config.yaml"
    settings.write_text(yaml.safe_dump(_kubelet(place, trust)))
    command = (
        str(programs["kubelet"]),
        f"--config={settings}",
        f"--kubeconfig={kubeconfig(place, 'kubelet')}",
        f"--root-dir={folder}",
        f"--cert-dir={folder / 'pki'}",
        f"--hostname-override={place.node}",
        f"--node-ip={network.NODE}",
    )
    environ = dict(environment(require("mount").parent))
    return Recipe(name="kubelet", command=command, environ=environ, within="node")


def is_kubelet_ready() -> bool:
    """Whether the kubelet is well by its own word. Raises OSError: it does not listen yet."""
    return answers("http", "127.0.0.1", 10248, "/healthz")


def proxy(place: Place, programs: Programs) -> Recipe:
    """kube-proxy: makes the addresses of services lead to their pods."""
    command = (
        str(programs["kube-proxy"]),
        f"--kubeconfig={kubeconfig(place, 'kube-proxy')}",
        f"--hostname-override={place.node}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={network.PODS}",
        "--conntrack-max-per-core=0",  # 0: leave the kernel's limit alone
        "--nodeport-addresses=primary",
    )
    return Recipe(name="kube-proxy", command=command, environ=dict(environment(require("nft").parent)))


def is_proxy_ready() -> bool:
    """Whether its rules are in the kernel. Raises OSError: it does not listen yet."""
    return answers("http", "127.0.0.1", 10256, "/healthz")


def _kubelet(place: Place, trust: Trust) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "address": str(network.NODE),
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(trust.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(trust.kubelet.certificate),
        "tlsPrivateKeyFile": str(trust.kubelet.key),
        "clusterDNS": [str(network.DNS_SERVICE)],
        "clusterDomain": network.DOMAIN,
        "resolvConf": "",  # nothing outside has a name here
        "failCgroupV1": False,  # refused by default since Kubernetes 1.35
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(place.folder / "kubelet" / "logs"),
        "volumePluginDir": str(place.folder / "kubelet" / "volume-plugins"),
        "maxPods": 110,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "imageGCHighThresholdPercent": 100,  # of the host's disk, which is not the lab's to judge
        "evictionHard": {"memory.available": "100Mi"},
        "registerWithTaints": [],
    }


def _cni(place: Place, programs: Programs) -> Path:
    """Write the pods' network; the folder of the plugins, which must be one."""
    folder = place.folder / "cni"
    for part in ("bin", "conf"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in CNI_PLUGINS:
        link = folder / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(programs[name])
    (folder / "conf" / "10-pods.conflist").write_text(PODS.format(subnet=network.PODS, addresses=folder / "addresses"))
    return folder / "bin"


PODS: Final = """\
{{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "pods0",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {{
        "type": "host-local",
        "ranges": [[{{"subnet": "{subnet}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}],
        "dataDir": "{addresses}"
      }}
    }}
  ]
}}
"""
"""https://www.cni.dev/plugins/current/main/bridge/; every pod is a neighbour of the node, so nothing is masqueraded."""

CONTAINERD: Final = """\
version = 3
root = "{root}"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
enable_cdi = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{networks}"

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{hosts}"
"""
"""https://github.com/containerd/containerd/blob/v2.2.7/docs/cri/config.md."""
