"""A real browser, driven over its own protocol on a pipe: open a page, choose files, wait for what appears, look.

Source: https://chromedevtools.github.io/devtools-protocol/ and Chromium's `--remote-debugging-pipe` (file descriptors 3
and 4, messages end with a zero byte).
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

TIMEOUT_S: Final = 60.0
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
KEYS: Final = {"Tab": (9, ""), "Enter": (13, "\r")}
"""With the numbers that Windows has for them, and what they write."""
MOVE: Final = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(reads, 3), os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Puts the pipe where Chromium looks for it; a shell cannot, its numbers end at 9."""


class Tab:
    """One page in the browser."""

    def __init__(self, asks: int, answers: int) -> None:
        self._asks = asks
        self._answers = answers
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self.complaints: list[str] = []
        """What the page or the browser wrote to the console, and uncaught errors."""

    def open(self, url: str, *, width: int = 1280, height: int = 900, is_dark: bool = False) -> None:
        """Load a page in a window of this size; returns when its scripts have run."""
        if self._session is None:
            target = self._ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "DOM"):
                self._ask(f"{domain}.enable")
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Page.navigate", url=url)
        arrived = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        try:
            self.wait(arrived)
        except AssertionError as error:
            if "navigated" not in str(error):  # the page before was still there, and took the question with it
                raise
            self.wait(arrived)

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true; asked again whenever the page changes."""
        self.run(
            "new Promise((done) => { const look = () => { try { if (" + condition + ") done(true); } catch {} };"
            "new MutationObserver(look).observe(document, {subtree: true, childList: true, attributes: true});"
            "addEventListener('load', look); look(); })"
        )

    def choose(self, selector: str, path: Path) -> None:
        """What a person does with a file chooser."""
        root = self._ask("DOM.getDocument")["root"]["nodeId"]
        node = self._ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._ask("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str) -> None:
        """One key of `KEYS`, on whatever has the focus."""
        number, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=number, text=text)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        taken = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self._ask("Browser.close")

    def _ask(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._asks, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(json.dumps(event["params"]))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError("the browser did not answer in time")
            read = os.read(self._answers, 1 << 20)
            if not read:
                raise AssertionError("the browser ended")
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A browser with one tab; `profile` is a folder of its own."""
    chromium = shutil.which("chromium")
    assert chromium is not None
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    command = [chromium, *FLAGS, f"--user-data-dir={profile}"]
    running = subprocess.Popen(
        [sys.executable, "-c", MOVE, str(their_in), str(their_out), *command],
        pass_fds=(their_in, their_out),
        stderr=subprocess.DEVNULL,
    )
    os.close(their_in)
    os.close(their_out)
    tab = Tab(our_out, our_in)
    try:
        yield tab
        tab.close()
    finally:
        running.terminate()
        running.wait(TIMEOUT_S)
        os.close(our_out)
        os.close(our_in)
