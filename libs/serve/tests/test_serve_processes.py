"""Workers come and go: killed, drained, reloaded; the metrics add up, and nothing that was accepted is lost."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_folders import write_full, write_minimal
from serve_process import Served, serving

pytestmark = pytest.mark.alone  # how long something takes is judged here

ROW = {"tenure_days": 900.0, "mean_charge": 12.5}
PATIENT = {"x-slipway-timeout-ms": "20000"}
"""Where nothing may be refused: a machine that stands still for a second makes requests late, and late is 503."""


def until(claim: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to become true, by looking at it."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not become true in time"
        threading.Event().wait(0.02)


def sample(served: Served, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    return sum(
        s.value
        for family in text_string_to_metric_families(served.metrics())
        for s in family.samples
        if s.name == name and labels.items() <= s.labels.items()
    )


async def closed_loop(url: str, clients: int, stop: threading.Event) -> Counter[object]:
    """Clients that each ask again as soon as they are answered, reconnecting when told to close."""
    seen: Counter[object] = Counter()

    async def one() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=20, headers=PATIENT) as client:
            while not stop.is_set():
                try:
                    seen[(await client.post("/predict", json=ROW)).status_code] += 1
                except httpx.ConnectError:
                    seen["refused"] += 1
                    return
                except httpx.HTTPError as error:
                    seen[type(error).__name__] += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return seen


def test_metrics_of_all_workers_add_up_to_what_the_clients_saw(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", flags={"workers": 2}) as served:
        until(lambda: len(served.workers()) == 2 and sample(served, "slipway_workers", state="ready") == 2)
        statuses = Counter(httpx.post(f"{served.url}/predict", json=ROW).status_code for _ in range(60))
        statuses.update(httpx.post(f"{served.url}/predict", json={}).status_code for _ in range(7))

        counted = sample(served, "http_server_request_duration_seconds_count", http_route="/predict")
        rows = sample(served, "slipway_inferences_total", model="minimal", result="ok")
        invalid = sample(served, "slipway_inferences_total", model="minimal", result="invalid")

    assert statuses == {200: 60, 422: 7}
    assert counted == 67
    assert invalid == 7
    assert rows >= 60  # and the row with which each worker proved itself


def test_a_killed_worker_is_replaced_and_its_counts_survive(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", flags={"workers": 2}) as served:
        until(lambda: len(served.workers()) == 2 and sample(served, "slipway_workers", state="ready") == 2)
        for _ in range(40):
            assert httpx.post(f"{served.url}/predict", json=ROW).status_code == 200
        before = sample(served, "http_server_request_duration_seconds_count", http_route="/predict")

        victim = served.workers()[0]
        victim.send_signal(signal.SIGKILL)
        until(lambda: victim.pid not in {w.pid for w in served.workers()} and len(served.workers()) == 2)
        until(lambda: sample(served, "slipway_workers", state="ready") == 2)
        after = sample(served, "http_server_request_duration_seconds_count", http_route="/predict")

        assert before == after == 40
        assert sample(served, "slipway_worker_restarts_total") == 1
        assert httpx.post(f"{served.url}/predict", json=ROW).status_code == 200


def test_sigterm_under_load_loses_no_accepted_request(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", flags={"workers": 2, "drain_s": 1.0}) as served:
        stop = threading.Event()
        seen: list[Counter[object]] = []
        load = threading.Thread(target=lambda: seen.append(asyncio.run(closed_loop(served.url, 16, stop))))
        load.start()
        until(lambda: sample(served, "http_server_request_duration_seconds_count", http_route="/predict") > 200)
        status = served.stop()
        stop.set()
        load.join()

    assert status == 0
    assert set(seen[0]) <= {200, "refused"}
    assert seen[0][200] > 200


def test_readyz_says_no_while_draining_and_livez_says_yes(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", flags={"drain_s": 5.0}) as served:
        with served.client() as client:
            ready = client.get("/readyz")
        served.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{served.url}/readyz").status_code == 503)
        draining, alive = httpx.get(f"{served.url}/readyz"), httpx.get(f"{served.url}/livez")
        served.process.send_signal(signal.SIGTERM)  # hasten
        served.process.wait(20)

    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert (draining.json()["draining"], draining.headers["connection"]) == (True, "close")
    assert alive.status_code == 200


def test_a_killed_supervisor_leaves_no_worker_behind(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", flags={"workers": 2, "drain_s": 0.1}) as served:
        until(lambda: len(served.workers()) == 2)
        workers = served.workers()
        served.process.kill()
        served.process.wait(10)

        for worker in workers:
            worker.wait(20)

    assert not any(worker.is_running() for worker in workers)


def test_ctrl_c_ends_the_server_with_130(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store") as served:
        assert served.stop(signal.SIGINT) == 130


def test_a_unix_socket_serves_a_sidecar_and_is_removed(minimal: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with serving(minimal, store=tmp_path / "store", flags={"uds": str(path)}):
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://sidecar") as client:
            answer = client.post("/predict", json=ROW)

    assert answer.status_code == 200
    assert not path.exists()


def test_several_services_are_served_under_their_names(minimal: Path, full: Path, tmp_path: Path) -> None:
    account = {"customer_id": "c-1", "opened": 0.0, "now": 1e6, "charges": [10.0]}
    with serving(minimal, full, store=tmp_path / "store") as served, served.client() as client:
        answers = [client.post("/minimal/predict", json=ROW), client.post("/full/predict", json=account)]
        ready = client.get("/readyz").json()
        inner = client.get("/v2/models/minimal"), client.get("/v2/models/churn_reasons"), client.get("/v2/models/churn")

    assert [a.status_code for a in answers] == [200, 200]
    assert [s["service"] for s in ready["services"]] == ["minimal", "full"]
    assert [i.status_code for i in inner] == [200, 200, 404]


def test_a_service_named_like_a_path_of_ours_is_refused_beside_others(minimal: Path, tmp_path: Path) -> None:
    folder = write_minimal(tmp_path / "svc", "docs")
    running = serving(minimal, folder, store=tmp_path / "store")

    with pytest.raises(AssertionError, match="service 'docs' cannot be served beside others"), running:
        pass


def test_an_answer_that_breaks_its_own_schema_is_our_error_and_fails_alone(tmp_path: Path) -> None:
    folder = write_minimal(tmp_path / "svc", "wild")
    source = folder / "src" / "wild_service.py"
    compute = (
        "\n\n@predict.compute\ndef wild(weights, batch):\n    out = weights(batch)['probability'].copy()\n"
        "    out[batch['tenure_days'] == 7.0] = float('nan')\n    return {'probability': out}\n"
    )
    source.write_text(source.read_text() + compute)
    with serving(folder, store=tmp_path / "store") as served, served.client() as client:
        bad = client.post("/predict", json={**ROW, "tenure_days": 7.0})
        good = client.post("/predict", json=ROW)

        assert (bad.status_code, bad.json()["code"]) == (500, "answer_invalid")
        assert bad.json()["instance"] in served.said()
        assert good.status_code == 200


def test_an_endpoint_problem_and_its_bytes_travel_as_declared(full: Path, tmp_path: Path) -> None:
    account = {"customer_id": "unknown", "opened": 0.0, "now": 1e6, "charges": []}
    with serving(full, store=tmp_path / "store") as served, served.client() as client:
        problem = client.post("/predict", json=account)
        pixel = client.post("/pixel", json=account)

    assert (problem.status_code, problem.json()["code"]) == (404, "customer_unknown")
    assert (pixel.headers["content-type"], pixel.content) == ("image/png", b"\x89PNGunknown")


def test_reload_serves_the_edit_and_survives_a_broken_one(tmp_path: Path) -> None:
    folder = write_full(tmp_path / "svc")
    toml = folder / "slipway.toml"
    account = {"customer_id": "c", "opened": 0.0, "now": 1e6, "charges": [1.0]}
    with serving(folder, store=tmp_path / "store", reload=True) as served:

        def factor() -> float:
            return float(httpx.post(f"{served.url}/predict", json=account).json()["factor"])

        assert factor() == 2.5
        source = folder / "src" / "full_service.py"
        good = source.read_text()
        source.write_text("this is not Python\n")
        until(lambda: "ended" in served.said())
        assert factor() == 2.5
        source.write_text(good.replace("settings().factor)", "settings().factor * 2)"))
        until(lambda: factor() == 5.0)

    assert toml.exists()


@pytest.mark.parametrize(
    ("break_it", "status", "told"),
    [
        (lambda f: (f / "slipway.toml").unlink(), 2, "slipway.toml"),
        (lambda f: (f / "model" / "model.ubj").write_bytes(b"{L\x00garbage"), 1, "model 'broken'"),
        (lambda f: (f / "src" / "broken_service.py").write_text("import nothing_like_it"), 2, "nothing_like_it"),
        (lambda f: append(f, "\n[runtime.models.brokn]\nmax_rows = 3\n"), 2, "brokn"),
        (lambda f: append(f, "\n[runtime.server]\nprot = 3\n"), 2, "did you mean `port`"),
        (lambda f: append(f, "\n[runtime.server]\nworkers = 0\n"), 2, "workers"),
    ],
)
def test_what_cannot_be_served_is_said_once_and_ends(
    tmp_path: Path, break_it: Callable[[Path], object], status: int, told: str
) -> None:
    folder = write_minimal(tmp_path / "svc", "broken")
    break_it(folder)

    with pytest.raises(AssertionError, match=f"exit {status}") as ended, serving(folder, store=tmp_path / "store"):
        pass

    assert told in str(ended.value)
    assert "Traceback" not in str(ended.value)


def test_a_port_in_use_is_named(served: Served, minimal: Path, tmp_path: Path) -> None:
    port = int(served.url.rpartition(":")[2])

    running = serving(minimal, store=tmp_path / "store", flags={"port": port})

    with pytest.raises(AssertionError, match=f"port {port} is in use"), running:
        pass


def test_the_environment_overrides_the_file_and_a_flag_overrides_both(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store", env={"SLIPWAY_PAGE": "false"}) as served:
        assert httpx.get(f"{served.url}/docs").status_code == 404
    with serving(minimal, store=tmp_path / "store", env={"SLIPWAY_PAGE": "false"}, flags={"page": True}) as served:
        assert httpx.get(f"{served.url}/docs").status_code == 200


def append(folder: Path, text: str) -> None:
    """Add to the folder's slipway.toml."""
    path = folder / "slipway.toml"
    path.write_text(path.read_text() + text)
