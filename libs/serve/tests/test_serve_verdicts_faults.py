"""The verdict service when something goes wrong: killed, full, on a network, behind TLS, not there."""

import json
import os
import signal
import subprocess
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest
from access_certificates import Authority
from gate_evidence import SUBJECT, refused
from msgspec.structs import replace
from verdicts_process import QUERY, now, slipway, text_of, until, verdicts

from slipway_serve.access.keys import new_key
from slipway_serve.verdicts.answers import Stage
from slipway_serve.verdicts.client import VerdictClient
from slipway_serve.verdicts.errors import ServiceUnreachableError
from slipway_signals.gate.evidence import encode_evidence

pytestmark = pytest.mark.slow


def test_a_killed_service_has_every_verdict_that_it_acknowledged(tmp_path: Path) -> None:
    """kill -9 in the middle of posts, twice; the file is opened again as it is."""
    acknowledged: list[str] = []

    def post(client: httpx.Client, lane: str) -> None:
        for stage in (f"{lane}-{number}" for number in range(10_000)):
            try:
                answer = client.post("/evidence", content=encode_evidence(refused(stage, now())))
            except httpx.HTTPError:
                return
            if answer.status_code == 201:
                acknowledged.append(stage)

    def has_more_than(count: int) -> bool:
        return len(acknowledged) > count

    for life in range(2):
        with verdicts(tmp_path) as (client, process):
            before = len(acknowledged)
            threads = [threading.Thread(target=post, args=(client, f"{life}-{lane}")) for lane in range(3)]
            for thread in threads:
                thread.start()
            assert until(partial(has_more_than, before + 10), True)
            process.kill()
            for thread in threads:
                thread.join(30)
            process.wait(10)

    with verdicts(tmp_path) as (client, _):
        told = {stage: client.get("/verdict", params={**QUERY, "stage": stage}).json() for stage in acknowledged}
    assert len(acknowledged) > 20
    assert {stage for stage, one in told.items() if one["verdict"] != "fail"} == set()
    assert {one["runs"] for one in told.values()} == {1}


@pytest.mark.e2e
@pytest.mark.needs("strace")
def test_an_answer_leaves_after_the_disk_has_the_verdict(tmp_path: Path) -> None:
    """What kill -9 cannot show, because the kernel keeps its pages: the log is synced before the 201 is sent."""
    trace = tmp_path / "trace"
    with verdicts(tmp_path) as (client, process):
        command = ["strace", "-f", "-y", "-qq", "-e", "trace=fsync,fdatasync,write,sendto,sendmsg", "-o", str(trace)]
        with subprocess.Popen([*command, "-p", str(process.pid)]) as tracer:
            assert until(lambda: client.get("/livez").text == "ok" and "HTTP/1.1 200" in text_of(trace), True)
            before = len(text_of(trace).splitlines())
            kept = client.post("/evidence", content=encode_evidence(refused("synced", now())))
            assert until(lambda: "HTTP/1.1 201" in text_of(trace), True)
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)

    lines = text_of(trace).splitlines()[before:]
    answered = next(at for at, line in enumerate(lines) if "HTTP/1.1 201" in line)
    synced = [at for at, line in enumerate(lines) if "sync(" in line and "verdicts.db-wal" in line]
    assert kept.status_code == 201
    assert synced
    assert synced[0] < answered


@pytest.mark.e2e
def test_a_full_store_answers_507_and_goes_on_answering(tmp_path: Path) -> None:
    big = [replace(refused(f"s{n}", now()), versions={"noise": os.urandom(150_000).hex()}) for n in range(9)]
    with verdicts(tmp_path, "--max-store-mb", "1") as (client, _):
        posted = [client.post("/evidence", content=encode_evidence(one)) for one in big]
        asked = [client.get("/verdict", params={**QUERY, "stage": f"s{n}"}).json() for n in range(9)]

    statuses = [one.status_code for one in posted]
    kept = statuses.count(201)
    assert 2 <= kept < 9
    assert set(statuses) == {201, 507}
    problems = [one.json() for one in posted if one.status_code == 507]
    assert {(one["code"], one["title"]) for one in problems} == {("verdict_store_full", "Insufficient storage")}
    assert [one["runs"] for one in asked] == [int(status == 201) for status in statuses]


@pytest.mark.e2e
def test_the_service_speaks_tls_to_the_command(tmp_path: Path) -> None:
    certificate, key, _ = Authority(tmp_path).issue("verdicts")
    keys = tmp_path / "keys.json"
    secret = new_key(keys, "ci", scopes=("verdicts:write",)).key
    (tmp_path / "key").write_text(f"{secret}\n")
    file = tmp_path / "evidence.json"
    file.write_bytes(encode_evidence(refused("tls", now())))
    with verdicts(tmp_path, "--tls-cert", certificate, "--tls-key", key, "--keys", keys, key=secret) as (client, _):
        url, authority = str(client.base_url), tmp_path / "tests-ca.pem"
        about = ["--to", url, "--key-file", str(tmp_path / "key"), "--ca", str(authority)]
        posted = slipway("gate", "post", str(file), *about)
        stage = ["--rollout", SUBJECT.rollout, "--pod-hash", SUBJECT.pod_hash, "--stage", "tls"]
        asked = slipway("gate", "ask", *about, *stage, "--json")
        unknown = VerdictClient(url, secret, authority=authority).ask(Stage(rollout="r", pod_hash="h", stage="unknown"))
        waited: list[float] = []
        with pytest.raises(ServiceUnreachableError, match="certificate verify failed") as strange:
            VerdictClient(url, secret, wait=waited.append).post(b"{}")

    assert (posted.stdout, posted.returncode) == ("fail\n", 0), posted.stderr
    assert "kept for stage tls of shop/churn at 6d5f8b7c9" in posted.stderr
    assert (json.loads(asked.stdout)["verdict"], asked.returncode) == ("fail", 1)
    assert unknown.verdict == "inconclusive"
    assert waited == []
    assert secret not in posted.stderr + asked.stderr + str(strange.value)


def test_a_service_without_keys_does_not_listen_to_a_network(tmp_path: Path) -> None:
    ran = slipway("gate", "serve", "--host", "0.0.0.0", "--port", "0", "--store", str(tmp_path / "verdicts.db"))

    assert (ran.stdout, ran.returncode) == ("", 2)
    assert "expected --keys FILE" in ran.stderr
    assert "slipway access key new" in ran.stderr
