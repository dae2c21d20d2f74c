"""`slipway split` in front of two real servers: who goes where, what a shadow shows, how it changes and how it ends."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serve_process import Served, serving
from split_process import Split, arms_of, config, counted, splitting
from tcp_balancer import balancing

from slipway_serve.access.keys import new_key

ROW = {"tenure_days": 120.0, "mean_charge": 40.0}
OTHER_ROW = {"tenure_days": 3_900.0, "mean_charge": 2.0}
STICKY = '[sticky]\nheader = "X-User"\n'


@pytest.fixture(scope="module")
def arms(minimal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Stable and candidate: two servers of the same service."""
    store = tmp_path_factory.mktemp("split-arms")
    with serving(minimal, store=store / "a") as stable, serving(minimal, store=store / "b") as candidate:
        yield stable, candidate


def test_a_file_that_is_wrong_changes_nothing_and_a_raised_weight_moves_only_who_must_move(
    arms: tuple[Served, Served], tmp_path: Path
) -> None:
    def shared(candidate: float) -> dict[str, tuple[str, float]]:
        return {"stable": (arms[0].url, 100 - candidate), "candidate": (arms[1].url, candidate)}

    with splitting(tmp_path, shared(20), STICKY) as split, split.client() as client:
        before = arms_of(client, range(150), body=ROW)
        split.configure('[arms.stable]\nurl = "http://127.0.0.1:1"\nwieght = 3\n')
        split.until(lambda: split.metric("slipway_split_stale_files") == 1)
        assert arms_of(client, range(20), body=ROW).items() <= before.items()
        assert "did you mean `weight`?" in split.said()  # a file that is wrong changes nothing
        split.configure(config(shared(50), STICKY))
        split.until(lambda: arms_of(client, range(5), body=ROW) and split.shares()["candidate"] == 0.5)
        after = arms_of(client, range(150), body=ROW)

    assert 10 <= counted(before)["candidate"] <= 50  # 30 expected, four standard deviations are 20
    moved = {user for user in before if before[user] != after[user]}
    assert len(moved) >= 20
    assert {after[user] for user in moved} == {"candidate"}


def test_only_a_key_with_the_scope_may_name_an_arm(arms: tuple[Served, Served], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    trusted = new_key(keys, "tester", scopes=["split:override"]).key
    other = new_key(keys, "billing").key
    shared = {"stable": (arms[0].url, 1.0), "candidate": (arms[1].url, 0.0)}
    named = {"X-Slipway-Arm": "candidate"}

    with splitting(tmp_path, shared, f'[override]\nkeys = "{keys}"\n') as split, split.client() as client:
        nobody = client.post("/predict", json=ROW, headers=named)
        billing = client.post("/predict", json=ROW, headers={**named, "X-API-Key": other})
        tester = client.post("/predict", json=ROW, headers={**named, "Authorization": f"Bearer {trusted}"})
        unknown = client.post("/predict", json=ROW, headers={"X-Slipway-Arm": "canary", "X-API-Key": trusted})

    assert (nobody.status_code, nobody.json()["code"]) == (403, "override_refused")
    assert billing.status_code == 403
    assert (tester.status_code, tester.headers["x-slipway-arm"]) == (200, "candidate")
    assert (unknown.status_code, unknown.json()["code"]) == (400, "arm_unknown")


def test_the_counters_of_an_arm_of_two_servers_are_those_of_both(arms: tuple[Served, Served], tmp_path: Path) -> None:
    """One of them has answered many before; each window's page is of the other one than that of the window before."""
    with arms[0].client() as client:
        for _ in range(100):
            client.post("/predict", json=ROW)
    with balancing([arm.url for arm in arms]) as url, balancing([arm.admin for arm in arms]) as admin:
        stable = f'[arms.stable]\nurl = "{url}"\nweight = 1.0\nadmin = "{admin}"\n'
        text = f'{stable}[arms.candidate]\nurl = "{arms[1].url}"\n[windows]\nfile = "windows.jsonl"\nseconds = 0.2\n'
        with Split(tmp_path, text) as split:
            split.until(lambda: len(split.windows()) >= 2)  # a page of each, and then requests
            with split.client() as client:
                for _ in range(60):
                    assert client.post("/predict", json=ROW).status_code == 200
            asked = len(split.windows())
            split.until(lambda: len(split.windows()) >= asked + 4)
            assert split.stop() == 0
            scrapes = [window.scrapes["stable"] for window in split.windows()]

    requests = [one.requests for one in scrapes if one.requests is not None]
    assert len(requests) == len(scrapes)
    assert requests == sorted(requests)
    assert requests[-1] - requests[0] == 60
    assert scrapes[-1].processes == 2


def test_a_shadow_is_asked_the_same_and_its_answers_are_compared(arms: tuple[Served, Served], tmp_path: Path) -> None:
    shared = {"stable": (arms[0].url, 1.0), "candidate": (arms[1].url, 0.0)}
    tables = '[shadow]\n[windows]\nfile = "windows.jsonl"\nseconds = 0.3\n'

    with splitting(tmp_path, shared, tables, 'repeatable = ["/predict"]') as split:
        with split.client() as client:
            for number in range(60):
                assert client.post("/predict", json=ROW if number % 2 else OTHER_ROW).status_code == 200
            client.get("/docs")
        split.until(lambda: split.metric("slipway_split_copies_total", result="agreed") == 60)
        assert split.stop() == 0
        windows = split.windows()

    assert [window.index for window in windows] == list(range(len(windows)))
    for arm in ("stable", "candidate"):
        counts = [window.arms[arm] for window in windows]
        assert sum(one.sent for one in counts) == sum(one.succeeded for one in counts) == 60
        assert sum(one.latency_us.count for one in counts) == 60
        assert sum(one.outputs["probability"].count for one in counts if one.succeeded) == 60
        assert sum(one.labels.get("status", {}).get("200", 0) for one in counts) == 60
    assert sum(window.pairs.compared for window in windows) == 60
    assert not any(window.pairs.disagreed for window in windows)
    assert sum(window.generator.offered for window in windows) == 60


@pytest.mark.e2e
def test_windows_of_a_split_count_each_arms_own_users(arms: tuple[Served, Served], tmp_path: Path) -> None:
    shared = {"stable": (arms[0].url, 50.0), "candidate": (arms[1].url, 50.0)}
    tables = STICKY + '[windows]\nfile = "windows.jsonl"\nseconds = 0.3\n'
    text = config(shared, tables).replace(f'url = "{arms[1].url}"', f'url = "{arms[1].url}"\nadmin = "{arms[1].admin}"')

    with splitting(tmp_path, shared, tables) as split:
        split.configure(text)
        split.until(lambda: any(window.scrapes for window in split.windows()))
        with split.client() as client:
            found = counted(arms_of(client, range(60), body=ROW))
            refused = client.post("/predict", json={"tenure_days": "many"})
        assert split.stop() == 0
        windows = split.windows()

    assert refused.status_code == 422
    sent = {arm: sum(window.arms[arm].sent for window in windows) for arm in ("stable", "candidate")}
    assert sent["stable"] + sent["candidate"] == 61
    assert abs(sent["candidate"] - found["candidate"]) <= 1
    assert sum(count.labels.get("status", {}).get("422", 0) for one in windows for count in one.arms.values()) == 1
    assert not any(window.pairs.compared for window in windows)
    assert windows[-1].scrapes["candidate"].ok
    assert split.windows_file.with_name("windows.jsonl.1").exists()  # of the configuration before


def test_who_is_connected_while_it_drains_is_answered(arms: tuple[Served, Served], tmp_path: Path) -> None:
    shared = {"stable": (arms[0].url, 50.0), "candidate": (arms[1].url, 50.0)}

    async def ask_until_refused(url: str, begun: asyncio.Event) -> list[int]:
        statuses: list[int] = []
        async with httpx.AsyncClient(base_url=url) as client:
            while True:
                try:
                    answer = await client.post("/predict", json=ROW)
                except httpx.ConnectError:
                    return statuses
                statuses.append(answer.status_code)
                begun.set()

    async def load() -> list[list[int]]:
        begun = asyncio.Event()
        tasks = [asyncio.create_task(ask_until_refused(split.url, begun)) for _ in range(4)]
        await asyncio.wait_for(begun.wait(), 10)
        split.process.terminate()
        return await asyncio.wait_for(asyncio.gather(*tasks), 30)

    with splitting(tmp_path, shared) as split:
        statuses = [one for each in asyncio.run(load()) for one in each]
        status = split.stop()

    assert status == 0
    assert len(statuses) > 10
    assert set(statuses) == {200}
