"""What is seen of a release from outside: the Rollout's states, the users' answers, the pods' own counters."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from lab_client import inside
from prometheus_client.parser import text_string_to_metric_families

from slipway_lab.state import Lab

USERS_A_SECOND: Final = 50
AGAIN_S: Final = 0.5
DURATION: Final = "http_server_request_duration_seconds"


class Moment(NamedTuple):
    """The Rollout as the controller had it."""

    at: float
    image: str
    is_seen: bool
    """Whether the status is about this image."""
    phase: str
    weight: int
    """Of the canary, percent."""
    message: str
    pod_hash: str
    stable_hash: str


class Counted(NamedTuple):
    """What pods counted of their users' requests."""

    failed: float
    buckets: dict[float, float]
    """Upper end (seconds) -> requests up to there."""

    def plus(self, other: "Counted", sign: float = 1.0) -> "Counted":
        ends = self.buckets.keys() | other.buckets.keys()
        buckets = {end: self.buckets.get(end, 0.0) + sign * other.buckets.get(end, 0.0) for end in ends}
        return Counted(self.failed + sign * other.failed, buckets)

    def since(self, before: "Counted") -> "Counted":
        return self.plus(before, -1.0)

    def quantile(self, q: float) -> float:
        """Seconds; a straight line inside of a bucket, as Prometheus does."""
        low, below, wanted = 0.0, 0.0, q * max(self.buckets.values(), default=0.0)
        for end, upto in sorted(self.buckets.items()):
            if upto >= wanted > 0.0 and upto > below:
                return low + (end - low) * (wanted - below) / (upto - below) if end < float("inf") else low
            low, below = end, upto
        return 0.0


class Watcher:
    """Every state of one Rollout, from now on; those while the API server is away are not seen."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self._command = inside(
            lab, "kubectl", f"--namespace={namespace}", "get", "rollout/churn", "--watch", "--output=json"
        )
        self.moments: list[Moment] = []
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        """No more of them."""
        with self._lock:
            self._stopped.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(30)

    def since(self, began: float, image: str) -> list[Moment]:
        """About this image."""
        return [one for one in self.moments if one.at >= began and one.image == image and one.is_seen]

    def _watch(self) -> None:
        """A watch ends with the API server; the next one begins with what is so by then."""
        while (process := self._begun()) is not None:
            with process:
                self._read(process)
            self._stopped.wait(AGAIN_S)

    def _begun(self) -> "subprocess.Popen[str] | None":
        """A watch; None: nobody wants another."""
        with self._lock:
            if self._stopped.is_set():
                return None
            command = self._command
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            return self._process

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Objects come as JSON of many lines, one after the other."""
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                self.moments.append(_moment(json.loads("".join(lines))))
                lines.clear()


class Users:
    """People who use the service all the time."""

    def __init__(self, lab: Lab, host: str, folder: Path) -> None:
        self._stop, self._out = folder / "users.stop", folder / "users.txt"
        program = Path(__file__).with_name("lab_users.py")
        words = (sys.executable, str(program), lab.ingress, host, str(USERS_A_SECOND), str(self._stop), str(self._out))
        self._process = subprocess.Popen(inside(lab, *words))

    def stop(self) -> None:
        """No more of them."""
        self._stop.touch()
        self._process.wait(30)

    def seen(self) -> list[tuple[float, float, int]]:
        """When each request was due (Unix seconds), how long it took (seconds), and its status; 0: no answer."""
        if not self._out.exists():
            return []
        whole = self._out.read_text().rpartition("\n")[0]
        return [(float(at), float(took), int(status)) for at, took, status in map(str.split, whole.splitlines())]


def is_failure(status: int) -> bool:
    """No answer, a failed one or a refused one."""
    return status == 0 or status >= 500 or status == 429


def counted(page: str) -> Counted:
    """Out of a page of metrics."""
    failed, buckets = 0.0, dict[float, float]()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            status = sample.labels.get("http_response_status_code", "")
            if sample.name == f"{DURATION}_count" and status and is_failure(int(status)):
                failed += sample.value
            elif sample.name == f"{DURATION}_bucket":
                end = float(sample.labels["le"])
                buckets[end] = buckets.get(end, 0.0) + sample.value
    return Counted(failed, buckets)


def _moment(rollout: dict[str, Any]) -> Moment:
    status = rollout.get("status", {})
    weights = status.get("canary", {}).get("weights", {})
    return Moment(
        at=time.time(),
        image=rollout["spec"]["template"]["spec"]["containers"][0]["image"],
        is_seen=status.get("observedGeneration") == str(rollout["metadata"]["generation"]),
        phase=status.get("phase", ""),
        weight=int(weights.get("canary", {}).get("weight", 0)),
        message=status.get("message", ""),
        pod_hash=status.get("currentPodHash", ""),
        stable_hash=status.get("stableRS", ""),
    )
