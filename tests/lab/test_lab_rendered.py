"""What the Pulumi programs make is taken by a real API server, and Argo Rollouts reads it as docs/canary.md says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from lab_client import apply, eventually, get, inside, kubectl, lab_command, state_of

from slipway_lab.state import Lab
from slipway_platform.rendering import render

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(300)]

REFERENCES = {
    f"organization/slipway-cluster/{name}": {
        "info": {"kind": "lab", "name": name, "registry": "10.230.0.1:5000", "gpu_resource": "nvidia.com/gpu"},
        "kubeconfig": "none",
    }
    for name in ("lab", "production")
}
MANAGER = "slipway"
PORT = 9917

ANSWERS = """
import http.server, json, sys, urllib.parse

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        _, kind, said, *rest = self.path.split("?")[0].split("/")
        value = urllib.parse.unquote(said)
        if kind == "prometheus":
            result = [] if value == "empty" else [{"metric": {}, "value": [1700000000, value]}]
            body = {"status": "success", "data": {"resultType": "vector", "result": result}}
        else:
            body = json.loads(value)
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_POST = do_GET
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("10.230.0.1", int(sys.argv[1])), Answers)
print("ready", flush=True)
server.serve_forever()
"""


def bodies(project: str, stack: str, namespace: str) -> list[dict[str, Any]]:
    """What a program makes, in a namespace of the test's own."""
    text = json.dumps(render(project, stack, references=REFERENCES).bodies)
    for usual in ("shop", "monitoring"):
        text = text.replace(f'"namespace": "{usual}"', f'"namespace": "{namespace}"')
    found: list[dict[str, Any]] = json.loads(text)
    return found


def server_side(lab: Lab, verb: str, objects: list[dict[str, Any]]) -> str:
    """`kubectl apply` or `diff`, as Pulumi would: it owns what it says, and takes nothing from anybody."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    strict = ["--validate=strict"] if verb == "apply" else []
    return kubectl(lab, verb, "--server-side", f"--field-manager={MANAGER}", *strict, "-f", "-", text=document)


@pytest.fixture
def classes(lab: Lab) -> Iterator[None]:
    """The priority classes that `platform/addons` makes, where nobody has made them; a class's value cannot change."""
    known = kubectl(lab, "get", "priorityclasses", "-o", "name")
    missing = [name for name in ("slipway-serving", "slipway-batch") if name not in known]
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 0}
    if missing:
        apply(lab, [{**kind, "metadata": {"name": name}} for name in missing])
    yield
    if missing:
        kubectl(lab, "delete", "priorityclass", *missing)


@pytest.fixture(scope="session")
def kinds(lab: Lab) -> None:
    """The kinds of every add-on, where a lab does not know them yet."""
    known = kubectl(lab, "get", "crd", "-o", "name")
    if not all(name in known for name in ("externalsecrets.", "httproutes.", "podmonitors.", "scaledobjects.")):
        subprocess.run(lab_command("define", f"--name={lab.name}"), check=bool(lab.namespace), timeout=240)


@pytest.mark.parametrize(("project", "stack"), [("services", "lab"), ("services", "example"), ("observability", "lab")])
def test_a_second_apply_of_what_a_program_makes_changes_nothing(
    lab: Lab, namespace: str, kinds: None, classes: None, project: str, stack: str
) -> None:
    """Strictly validated, and after the controllers have written to the objects too."""
    objects = bodies(project, stack, namespace)

    server_side(lab, "apply", objects)
    rollouts = [one["metadata"]["name"] for one in objects if one["kind"] == "Rollout"]

    def are_written() -> bool:
        found = [get(lab, "rollout", name, "-n", namespace) for name in rollouts]
        return all("observedGeneration" in one.get("status", {}) for one in found)

    eventually(are_written, 60, state_of(lab, namespace))
    assert server_side(lab, "diff", objects) == ""
    server_side(lab, "apply", objects)


CASES = {
    # template / metric, what is answered, what Argo makes of it
    "guard-fine": ("guard", "errors", "prometheus/0.01", "Successful"),
    "guard-bad": ("guard", "errors", "prometheus/0.5", "Failed"),
    "guard-empty": ("guard", "errors", "prometheus/empty", "Inconclusive"),
    "guard-nan": ("guard", "errors", "prometheus/NaN", "Inconclusive"),
    "pages-none": ("freeze", "pages", "prometheus/0", "Successful"),
    "pages-two": ("freeze", "pages", "prometheus/2", "Inconclusive"),
    "pages-silent": ("freeze", "pages", "prometheus/empty", "Inconclusive"),
    "budget-left": ("freeze", "budget", "prometheus/0.5", "Successful"),
    "budget-spent": ("freeze", "budget", "prometheus/-0.2", "Inconclusive"),
    "budget-unknown": ("freeze", "budget", "prometheus/empty", "Inconclusive"),
    "frozen-not": ("freeze", "frozen", 'web/{"frozen": []}', "Successful"),
    "frozen-other": ("freeze", "frozen", 'web/{"frozen": [{"rollout": "shop/other"}]}', "Successful"),
    "frozen-this": ("freeze", "frozen", 'web/{"frozen": [{"rollout": "shop/churn"}]}', "Inconclusive"),
    "frozen-all": ("freeze", "frozen", 'web/{"frozen": [{"rollout": "*"}]}', "Inconclusive"),
    "verdict-pass": ("verdict", "verdict", 'web/{"verdict":"pass","pod_hash":"h1","stage":"10"}', "Successful"),
    "verdict-pods": ("verdict", "verdict", 'web/{"verdict":"pass","pod_hash":"h2","stage":"10"}', "Inconclusive"),
    "verdict-stage": ("verdict", "verdict", 'web/{"verdict":"pass","pod_hash":"h1","stage":"30"}', "Inconclusive"),
    "verdict-fail": ("verdict", "verdict", 'web/{"verdict":"fail","pod_hash":"h1","stage":"10"}', "Failed"),
    "verdict-open": (
        "verdict",
        "verdict",
        'web/{"verdict":"inconclusive","pod_hash":"h1","stage":"10"}',
        "Inconclusive",
    ),
    "verdict-odd": ("verdict", "verdict", "web/{}", "Inconclusive"),
    "job-stuck": ("stage", "stage", "", "Failed"),
}


@pytest.fixture
def answers(own_lab: Lab, tmp_path: Path) -> Iterator[str]:
    """A server in the lab's network that answers what its path says."""
    script = tmp_path / "answers.py"
    script.write_text(ANSWERS, encoding="utf-8")
    command = inside(own_lab, sys.executable, str(script), str(PORT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield f"http://10.230.0.1:{PORT}"
        finally:
            process.terminate()


def analysis_run(templates: dict[str, Any], case: str, url: str, namespace: str) -> dict[str, Any]:
    """A run of one metric of a template, asked once, of the server."""
    template, name, said, _ = CASES[case]
    metric = json.loads(json.dumps(next(one for one in templates[template]["metrics"] if one["name"] == name)))
    kind, _, value = said.partition("/")
    address = f"{url}/{kind}/{quote(value, safe='')}"
    if "prometheus" in metric["provider"]:
        metric["provider"]["prometheus"]["address"] = address
    elif "web" in metric["provider"]:
        metric["provider"]["web"]["url"] = address
    else:
        metric["provider"]["job"]["spec"]["activeDeadlineSeconds"] = 8
    once = {"count": 1, "failureLimit": 0, "inconclusiveLimit": 0} | ({"consecutiveErrorLimit": 2} if said else {})
    metric = {key: value for key, value in (metric | once).items() if key != "interval"}
    given = {"pod-hash": "h1", "stage": "10", "key": "k", "candidate-bundle": "none"}
    used = [one["name"] for one in templates[template]["args"]]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisRun",
        "metadata": {"name": case, "namespace": namespace},
        "spec": {"metrics": [metric], "args": [{"name": one, "value": given[one]} for one in used]},
    }


def test_argo_understands_every_answer_as_it_is_meant(
    own_lab: Lab, namespace: str, classes: None, answers: str
) -> None:
    """Real controller, the rendered metrics; only who answers is ours. A pull that is stuck fails."""
    made = render("services", "example", references=REFERENCES).bodies
    templates = {
        one["metadata"]["name"].removeprefix("churn-"): one["spec"]
        for one in made
        if one["kind"] == "AnalysisTemplate" and one["metadata"]["name"].startswith("churn-")
    }
    runs = [analysis_run(templates, case, answers, namespace) for case in CASES]

    apply(own_lab, runs)

    def phases() -> dict[str, str]:
        items = get(own_lab, "analysisruns", "-n", namespace)["items"]
        return {one["metadata"]["name"]: one.get("status", {}).get("phase", "") for one in items}

    over = {"Successful", "Failed", "Inconclusive", "Error"}
    eventually(lambda: set(phases().values()) <= over and len(phases()) == len(CASES), 120, lambda: str(phases()))
    assert phases() == {case: phase for case, (*_, phase) in CASES.items()}


def test_a_job_that_was_ended_counts_as_a_success_so_that_no_job_may_decide(
    own_lab: Lab, namespace: str, classes: None, answers: str
) -> None:
    """The trap itself, in the controller that we run; a step that asks for the verdict follows every Job.

    When this fails, Argo Rollouts has mended it.
    """
    made = {one["metadata"]["name"]: one for one in render("services", "example", references=REFERENCES).bodies}
    templates = {"stage": made["churn-stage"]["spec"]}
    run = analysis_run(templates, "job-stuck", answers, namespace)
    run["spec"]["metrics"][0]["provider"]["job"]["spec"]["activeDeadlineSeconds"] = 120

    apply(own_lab, [run])
    eventually(lambda: bool(get(own_lab, "jobs", "-n", namespace)["items"]), 60, state_of(own_lab, namespace))
    ended = '-p={"spec":{"terminate":true}}'
    kubectl(own_lab, "-n", namespace, "patch", "analysisrun", "job-stuck", "--type=merge", ended)

    def phase() -> str:
        return str(get(own_lab, "analysisrun", "job-stuck", "-n", namespace)["status"].get("phase", ""))

    eventually(lambda: phase() not in {"", "Running", "Pending"}, 60, state_of(own_lab, namespace))
    assert phase() == "Successful"
