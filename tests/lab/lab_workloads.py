"""What tests run in a cluster: a server of thirty lines in Debian's Python, as a Deployment or a Rollout."""

import json
import sys
from typing import Any, Final

from image_base import debian_base
from lab_client import run

from slipway_lab.state import Lab

PORT: Final = 8000
ADMIN: Final = 8002
PYTHON: Final = "/usr/bin/python3.11"
SERVER: Final = """
import http.server, json, os, threading
COUNT = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global COUNT
        COUNT += 1
        try:
            open("/evil", "w")
            wrote = "written"
        except OSError as error:
            wrote = error.strerror
        told = {"pod": os.environ["HOSTNAME"], "uid": os.getuid(), "wrote": wrote, "track": os.environ["TRACK"]}
        body = json.dumps(told).encode()
        if self.path == "/metrics":
            body = f"# TYPE asked_total counter\\nasked_total {COUNT}\\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
admin = http.server.ThreadingHTTPServer(("", 8002), Handler)
threading.Thread(target=admin.serve_forever, daemon=True).start()
print("serves", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""

ASK: Final = """
import collections, json, sys, urllib.request
seen = collections.Counter()
for _ in range(int(sys.argv[3])):
    asked = urllib.request.Request(sys.argv[1], headers={"host": sys.argv[2]})
    seen[json.load(urllib.request.urlopen(asked, timeout=10))["track"]] += 1
print(json.dumps(seen))
"""


def python_image(lab: Lab, repository: str) -> str:
    """Debian's Python, in the lab's registry; the reference by digest."""
    place = f"{lab.registry}/{repository}"
    plain = ("--dest-tls-verify=false", "--preserve-digests")
    run(lab, "skopeo", "copy", "-q", *plain, debian_base(), f"docker://{place}:1", timeout_s=120)
    shown = run(lab, "skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{place}:1")
    return f"{place}@{shown.strip()}"


def answered(lab: Lab, host: str, count: int) -> dict[str, int]:
    """Which tracks answered that many requests through the router, one after the other."""
    said = run(lab, sys.executable, "-c", ASK, lab.ingress, host, str(count), timeout_s=120)
    found: dict[str, int] = json.loads(said)
    return found


def pod(name: str, image: str, *, track: str = "stable", cpu: str = "100m") -> dict[str, Any]:
    """A pod template as strict as ours: nobody's user, read-only root, no capability."""
    return {
        "metadata": {"labels": {"app": name, "slipway.dev/service": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "server",
                    "image": image,
                    "command": [PYTHON, "-c", SERVER],
                    "env": [{"name": "TRACK", "value": track}],
                    "ports": [{"name": "http", "containerPort": PORT}, {"name": "admin", "containerPort": ADMIN}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                    "resources": {"requests": {"cpu": cpu, "memory": "32Mi"}, "limits": {"cpu": cpu, "memory": "64Mi"}},
                    "securityContext": {
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def deployment(namespace: str, name: str, template: dict[str, Any], replicas: int) -> dict[str, Any]:
    """A Deployment of such pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def service(namespace: str, name: str, app: str) -> dict[str, Any]:
    """An address for the pods of `app`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": PORT}]},
    }


def autoscaler(namespace: str, name: str, most: int) -> dict[str, Any]:
    """Grows at 60 % of the processor time that was asked for, to `most` pods."""
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    }


def route(namespace: str, name: str, host: str) -> list[dict[str, Any]]:
    """Traefik's way from a host to the stable and the canary service; Rollouts writes the weights."""
    group = "traefik.io/v1alpha1"
    services = [{"name": f"{name}-{arm}", "port": PORT} for arm in ("stable", "canary")]
    rule = {
        "kind": "Rule",
        "match": f"Host(`{host}`)",
        "services": [{"name": name, "namespace": namespace, "kind": "TraefikService"}],
    }
    return [
        {
            "apiVersion": group,
            "kind": "TraefikService",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"weighted": {"services": services}},
        },
        {
            "apiVersion": group,
            "kind": "IngressRoute",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"entryPoints": ["web"], "routes": [rule]},
        },
    ]


def rollout(namespace: str, name: str, template: dict[str, Any]) -> dict[str, Any]:
    """A canary of 10 %, a look by hand, a Job that must succeed, then all of it."""
    steps = [{"setWeight": 10}, {"pause": {}}, {"analysis": {"templates": [{"templateName": "job"}]}}]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
            "strategy": {
                "canary": {
                    "stableService": f"{name}-stable",
                    "canaryService": f"{name}-canary",
                    "trafficRouting": {"traefik": {"weightedTraefikServiceName": name}},
                    "steps": steps,
                }
            },
        },
    }


def job_analysis(namespace: str, image: str, script: str) -> dict[str, Any]:
    """An analysis that is a Job: it runs `script`, and passes when that exits with 0."""
    container = {"name": "job", "image": image, "command": [PYTHON, "-c", script]}
    job = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": 60,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {"metrics": [{"name": "job", "count": 1, "failureLimit": 0, "provider": {"job": {"spec": job}}}]},
    }
