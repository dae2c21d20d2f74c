"""The load process, as the gate starts it: real locust, real sockets, windows on its stdout."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from load_processes import RUN_S, Answered, command, inputs, plan_of, run, server, until

import slipway_loadtests
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.load_plan import encode_plan
from slipway_signals.gate.records import Window, decode_window

PACKAGE = Path(slipway_loadtests.__file__).parent
STALL_S = 1.0
NEVER = {"stable_failed": 1.0}


def total(windows: list[Window], arm: str = "stable") -> Histogram:
    merged = Histogram()
    for window in windows:
        merged.merge(window.arms[arm].latency_us)  # type: ignore[index]  # an arm's name
    return merged


def stalling() -> Callable[[int, bytes], Answered]:
    """Answers, but stands still for a second once: everybody who comes meanwhile waits."""
    lock = threading.Lock()
    stalled = threading.Event()

    def answer(number: int, body: bytes) -> Answered:
        with lock:
            if number >= 60 and not stalled.is_set():
                stalled.set()
                threading.Event().wait(STALL_S)
        return Answered()

    return answer


def test_both_arms_get_the_same_inputs_interleaved_and_windows_add_up(tmp_path: Path) -> None:
    answer = Answered(headers={"X-Slipway-Bundle": "sha256:aa"})
    with server(lambda *_: answer) as stable, server(lambda *_: answer) as candidate:
        source = inputs(tmp_path, *({"x": number} for number in range(500)))
        arms = {"stable": stable.url, "candidate": candidate.url}
        plan = plan_of(tmp_path, arms, warm_up_s=0.5, scenarios=[{"payloads": source}])
        ran = run(plan, tmp_path, "compare")

    windows, asked = ran.windows, len(stable.seen)
    bodies = [sorted(body for _, _, body in arm.seen) for arm in (stable, candidate)]
    counts = [window.arms[arm] for window in windows for arm in plan.arms]
    assert ran.status == 0, ran.said
    assert [window.index for window in windows] == [0, 1, 2]
    assert [window.is_warm_up for window in windows] == [True, False, False]
    assert bodies[0] == bodies[1]
    assert 100 < asked < 200
    assert len(set(bodies[0])) == asked
    assert sum(window.generator.offered for window in windows) == asked
    assert sum(count.sent for count in counts) == 2 * asked
    assert sum(count.first_sent for count in counts) == asked
    assert {digest for count in counts for digest in count.digests} == {"sha256:aa"}
    assert sum(window.pairs.compared for window in windows) >= asked - 2  # what crossed the warm-up's end is left out
    assert all(window.pairs.disagreed == {} for window in windows)
    assert 0 < sum(count.first_sent for count in counts[::2]) < asked
    assert all(headers["x-slipway-synthetic"] == "1" for _, headers, _ in stable.seen)


def test_a_stall_is_in_the_open_loops_p99_and_hidden_by_a_closed_loop(tmp_path: Path) -> None:
    with server(stalling()) as one:
        plan = plan_of(tmp_path, {"stable": one.url}, seconds=3.0, timeout_s=5.0)
        open_loop = total(run(plan, tmp_path).windows)
    with server(stalling()) as other:
        path = tmp_path / "closed.json"
        path.write_bytes(encode_plan(plan_of(tmp_path, {"stable": other.url}, seconds=3.0, think_s=(0.005, 0.005))))
        line = ["-m", "locust", "-f", str(PACKAGE / "closed_loop.py"), "--plan", str(path), "--headless"]
        closed = subprocess.run(
            [sys.executable, *line, "-u", "1", "-t", "3s", "--json", "--only-summary"],
            capture_output=True, timeout=RUN_S, check=True,
        )  # fmt: skip

    figures = json.loads(closed.stdout)[0]
    times = Counter({float(time_ms): count for time_ms, count in figures["response_times"].items()})
    slow = sum(count for time_ms, count in times.items() if time_ms > 100)
    assert open_loop.count > 200
    assert open_loop.quantile(0.99) > 0.8 * STALL_S * 1e6  # a third of the run was due while it stood still
    assert open_loop.quantile(0.75) > 0.1 * STALL_S * 1e6
    assert figures["num_requests"] > 100
    assert slow == 1  # 1 of so many: its p99 knows of no stall


def test_a_generator_that_stood_still_is_late_and_its_latencies_say_so(tmp_path: Path) -> None:
    with server() as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, seconds=3.0, window_s=3.0)
        process = subprocess.Popen(command(plan, tmp_path, "run"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        until(lambda: len(stable.seen) > 20, "20 requests")
        process.send_signal(signal.SIGSTOP)
        threading.Event().wait(STALL_S)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=RUN_S)

    window = decode_window(said)
    assert window.generator.slip_us.quantile(1.0) > 0.8 * STALL_S * 1e6
    assert window.arms["stable"].latency_us.quantile(1.0) > 0.8 * STALL_S * 1e6
    assert window.generator.offered == window.arms["stable"].sent > 200  # late, and not left out


def test_a_run_that_is_told_to_stop_ends_within_a_second_with_a_last_window(tmp_path: Path) -> None:
    with server() as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, seconds=60.0, window_s=10.0)
        process = subprocess.Popen(command(plan, tmp_path, "run"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        until(lambda: len(stable.seen) > 20, "20 requests")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=5)

    window = json.loads(said)
    assert process.returncode == 0
    assert window["index"] == 0
    assert window["end_s"] < 10.0
    assert window["arms"]["stable"]["succeeded"] > 20


def test_what_is_wrong_with_an_answer_is_counted_by_its_reason(tmp_path: Path) -> None:
    wrong = [
        Answered(status=500),
        Answered(status=429, headers={"Retry-After": "1"}),
        Answered(hangs=True),
        Answered(body=b'{"score": NaN}'),
    ]

    with server(lambda number, _: wrong[number % 8] if number % 8 < 4 else Answered()) as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, seconds=1.2, timeout_s=0.3, caps=NEVER)
        ran = run(plan, tmp_path)

    sent = len(stable.seen)
    counts = [window.arms["stable"] for window in ran.windows]
    failed = sum((Counter(count.failed) for count in counts), Counter[str]())
    eighth = [(sent - place + 7) // 8 for place in range(4)]
    assert ran.status == 0
    assert failed == {"http_500": eighth[0], "http_429": eighth[1], "timeout": eighth[2]}
    assert sum(count.malformed for count in counts) == eighth[3]
    assert sum(count.sent for count in counts) == sent
    assert sum(count.succeeded for count in counts) == sent - sum(eighth[:3])


def test_load_that_hurts_stable_is_stopped_and_says_why(tmp_path: Path) -> None:
    with server(lambda number, _: Answered(status=500 if number > 50 else 200)) as stable, server() as candidate:
        arms = {"stable": stable.url, "candidate": candidate.url}
        ran = run(plan_of(tmp_path, arms, seconds=30.0, caps={"stable_failed": 0.1}), tmp_path, "compare")

    assert ran.status == 1
    assert ran.error["code"] == "load_hurt_stable"
    assert "expected at most 10.0% (`caps.stable_failed`)" in ran.error["message"]
    assert ran.windows[-1].end_s < 10


def test_what_is_due_beyond_the_cap_is_dropped_and_counted_not_sent_late(tmp_path: Path) -> None:
    with server(lambda *_: Answered(hangs=True)) as stable:
        plan = plan_of(tmp_path, {"stable": stable.url}, seconds=1.0, timeout_s=5.0, max_in_flight=10, caps=NEVER)
        ran = run(plan, tmp_path)

    generators = [window.generator for window in ran.windows]
    assert len(stable.seen) == 10
    assert sum(generator.dropped for generator in generators) == sum(generator.offered for generator in generators) - 10
    assert sum(generator.offered for generator in generators) > 60


@pytest.mark.e2e
def test_several_processes_send_what_one_would_and_their_windows_are_one(tmp_path: Path) -> None:
    source = inputs(tmp_path, *({"x": number} for number in range(500)))
    seen = []
    for workers in (1, 2):
        with server() as stable:
            plan = plan_of(tmp_path, {"stable": stable.url}, workers=workers, scenarios=[{"payloads": source}])
            ran = run(plan, tmp_path)
        seen.append(sorted(body for _, _, body in stable.seen))

    assert ran.status == 0, ran.said
    assert seen[0] == seen[1]
    assert [window.index for window in ran.windows] == [0, 1, 2]
    assert sum(window.arms["stable"].succeeded for window in ran.windows) == len(seen[1])
    assert sum(window.arms["stable"].sent for window in ran.windows) == len(seen[1])
    assert ran.windows[0].generator.clock_offset_s == pytest.approx(0.0, abs=0.5)


def test_known_answers_are_labels(tmp_path: Path) -> None:
    lines = [{"input": {"x": 1}, "output": {"score": score, "label": "yes"}} for score in (0.5, 0.5, 0.9, 0.501)]
    with server() as stable:
        scenarios = [{"payloads": inputs(tmp_path, *lines)}]
        ran = run(plan_of(tmp_path, {"stable": stable.url}, scenarios=scenarios, tolerances={"score": 0.01}), tmp_path)

    labelled = sum(window.arms["stable"].labelled for window in ran.windows)
    correct = sum(window.arms["stable"].correct for window in ran.windows)
    assert labelled == len(stable.seen)
    assert correct == sum(number % 4 != 2 for number in range(labelled))


@pytest.mark.parametrize(
    ("text", "verb", "code", "status"),
    [
        ("rate = 1", "run", "config_invalid", 2),
        ("arms.stable.url = 'http://127.0.0.1:1'", "compare", "config_invalid", 2),
        ("arms.stable.url = 'http://127.0.0.1:1'", "run", "load_unreachable", 3),
    ],
)
def test_a_run_that_cannot_begin_is_one_json_error_with_its_status(
    tmp_path: Path, text: str, verb: str, code: str, status: int
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(text)

    ran = run(plan, tmp_path, verb)

    assert (ran.status, ran.error["code"]) == (status, code)
    assert ran.windows == []
