"""The admission webhook, as Kubernetes asks it: its own process behind TLS, a real registry, signed bundles."""

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from access_certificates import Authority
from bundle_fakes import Shelf, train
from registry_process import RegistryProcess, running
from trust_fakes import Keys

from slipway_bundle.registry import push
from slipway_bundle.trust.signatures import sign
from slipway_serve.admission.judge import name_of
from slipway_serve.admission.manifests import AdmissionManifests, admission_manifests

pytestmark = [pytest.mark.needs("docker-registry"), pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
RULES = '[signatures]\nby = ["release"]\n[admission]\nexempt = ["registry.k8s.io/*"]\n'


class World:
    """A registry with a signed and an unsigned bundle, and the files that the webhook is started with."""

    def __init__(self, folder: Path, registry: RegistryProcess) -> None:
        self.registry = registry
        self.folder = folder
        self.keys = Keys(folder)
        self.keys.policy(RULES, "release")
        self.policy = folder / "policy.toml"
        shelf = Shelf(folder, train())
        self.unsigned = push(shelf.store, "tiny", f"{registry.host}/unsigned:1", environ={}).ref
        sign(shelf.store, "tiny", self.keys.signer("release"))
        self.signed = push(shelf.store, "tiny", f"{registry.host}/signed:1", environ={}).ref
        authority = Authority(folder)
        self.authority = authority.path
        self.certificate, self.key, _ = authority.issue("webhook")


class Webhook:
    """A running webhook."""

    def __init__(self, url: str, trusted: ssl.SSLContext) -> None:
        self.client = httpx.Client(base_url=url, verify=trusted, timeout=30)

    def ask(self, *images: str, **more: Any) -> dict[str, Any]:
        """What it answers about a pod of these images."""
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": image} for image in images]}}
        body = review(pod, **more)
        answer = self.client.post("/validate", content=json.dumps(body))
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["apiVersion"], told["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert told["response"]["uid"] == "u-1"
        return dict(told["response"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("admission")
    with running(folder / "registry") as registry:
        yield World(folder, registry)


@pytest.fixture(scope="module")
def webhook(world: World) -> Iterator[Webhook]:
    with asked(world, "--cache-s", "0") as webhook:
        yield webhook


@contextmanager
def asked(world: World, *options: str) -> Iterator[Webhook]:
    command = [sys.executable, "-P", "-m", "slipway_cli", "policy", "webhook", "--policy", str(world.policy)]
    command += ["--tls-cert", str(world.certificate), "--tls-key", str(world.key), "--port", "0", *options]
    log = world.folder / "webhook.log"
    with log.open("w") as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("https://"), log.read_text()
            webhook = Webhook(url, ssl.create_default_context(cafile=str(world.authority)))
            with webhook.client:
                yield webhook
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def review(pod: dict[str, Any], **more: Any) -> dict[str, Any]:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "u-1", "kind": kind, "operation": "CREATE", "namespace": "ml", "object": pod, **more}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def test_a_bundle_that_the_policy_allows_may_run(world: World, webhook: Webhook) -> None:
    assert webhook.ask(world.signed) == {"uid": "u-1", "allowed": True}


def test_an_unsigned_bundle_is_refused_with_the_rule_and_the_way_out(world: World, webhook: Webhook) -> None:
    told = webhook.ask(world.unsigned)

    assert told["allowed"] is False
    assert told["status"]["code"] == 403
    for part in (world.unsigned, "signatures", "slipway bundle sign"):
        assert part in told["status"]["message"]


def test_one_refused_image_refuses_the_pod(world: World, webhook: Webhook) -> None:
    told = webhook.ask(world.signed, world.unsigned)

    assert told["allowed"] is False
    assert world.signed not in told["status"]["message"]


@pytest.mark.parametrize("place", ["initContainers", "ephemeralContainers", "volumes"])
def test_every_image_of_a_pod_is_judged(world: World, webhook: Webhook, place: str) -> None:
    other = {"name": "v", "image": {"reference": world.unsigned}} if place == "volumes" else {"image": world.unsigned}
    pod = {"spec": {"containers": [{"image": world.signed}], place: [other]}}

    answer = webhook.client.post("/validate", content=json.dumps(review(pod))).json()

    assert answer["response"]["allowed"] is False


def test_a_tag_is_refused(world: World, webhook: Webhook) -> None:
    told = webhook.ask(f"{world.registry.host}/signed:1")

    assert told["allowed"] is False
    assert "expected a digest" in told["status"]["message"]


def test_what_is_exempt_is_not_judged(webhook: Webhook) -> None:
    assert webhook.ask("registry.k8s.io/pause:3.10")["allowed"] is True


def test_a_bundle_that_is_not_there_is_refused(world: World, webhook: Webhook) -> None:
    told = webhook.ask(f"{world.registry.host}/signed@sha256:{'0' * 64}")

    assert told["allowed"] is False
    assert "cannot be judged" in told["status"]["message"]


def test_a_change_of_a_pod_that_runs_is_judged_by_its_new_images_only(world: World, webhook: Webhook) -> None:
    old = {"spec": {"containers": [{"image": world.unsigned}]}}

    change = {"operation": "UPDATE", "oldObject": old}

    assert webhook.ask(world.unsigned, **change)["allowed"] is True
    assert webhook.ask(world.unsigned, f"{world.registry.host}/x:1", **change)["allowed"] is False


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        json.dumps(review({}) | {"apiVersion": "admission.k8s.io/v9"}).encode(),
        json.dumps(review({"spec": {}}, kind={"group": "apps", "kind": "Deployment"})).encode(),
        b"\xff\xfe",
        b'{"a":' * 5_000,
    ],
)
def test_what_is_no_review_is_no_yes(webhook: Webhook, body: bytes) -> None:
    answer = webhook.client.post("/validate", content=body)

    assert answer.status_code == 400
    assert "allowed" not in answer.text


def test_a_body_without_end_is_refused(webhook: Webhook) -> None:
    assert webhook.client.post("/validate", content=b" " * (4 << 20)).status_code == 413


def test_its_own_probes_answer(webhook: Webhook) -> None:
    assert [webhook.client.get(path).status_code for path in ("/livez", "/readyz", "/nothing")] == [200, 200, 404]


def test_a_policy_that_changes_counts_at_once_and_a_broken_one_changes_nothing(world: World) -> None:
    text = world.policy.read_text()
    with asked(world, "--cache-s", "3600") as webhook:
        assert webhook.ask(world.signed)["allowed"] is True
        try:
            world.policy.write_text("nonsense = [")
            assert webhook.ask(world.signed)["allowed"] is True
            world.policy.write_text(text + '[licences]\nallow = ["MIT"]\n')
            told = until_refused(webhook, world.signed)
        finally:
            world.policy.write_text(text)

    assert "licences" in told["status"]["message"]


def test_a_registry_that_is_gone_lets_nothing_in(world: World, webhook: Webhook) -> None:
    world.registry.stop()
    try:
        told = webhook.ask(world.signed)
    finally:
        world.registry.start()

    assert told["allowed"] is False


def until_refused(webhook: Webhook, image: str) -> dict[str, Any]:
    """The files are looked at once a second; each question takes its time, so this ends."""
    for _ in range(2_000):
        told = webhook.ask(image)
        if not told["allowed"]:
            return told
    raise AssertionError("the new policy never counted")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx"),
        ("team/app:1", "docker.io/team/app"),
        ("localhost/app", "localhost/app"),
        ("10.0.0.1:5000/a/b:1@sha256:00", "10.0.0.1:5000/a/b"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause"),
    ],
)
def test_names_are_read_as_kubernetes_reads_them(image: str, name: str) -> None:
    assert name_of(image) == name


def test_the_manifests_ask_the_webhook_for_pods_and_fail_closed() -> None:
    text = admission_manifests(AdmissionManifests(namespace="platform", ca=b"ca"))

    webhook, digests, binding = yaml.safe_load_all(text)

    asked = webhook["webhooks"][0]
    assert asked["failurePolicy"] == digests["spec"]["failurePolicy"] == "Fail"
    assert asked["clientConfig"]["service"]["path"] == "/validate"
    assert {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["platform"]} in asked[
        "namespaceSelector"
    ]["matchExpressions"]
    assert binding["spec"]["policyName"] == digests["metadata"]["name"]
    assert binding["spec"]["validationActions"] == ["Deny"]
