"""Asking a verdict service, posting to it, freezing it: what CI, a rollout's Job and people do.

It judges nothing. The invariants: the key goes to the given address only (redirects are answers like any other) and is
in no message; a post is tried again after a bad moment, which is safe because evidence counts once.
"""

import ssl
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from slipway_bundle.errors import FileError
from slipway_serve.verdicts.answers import Answer, Freeze, Recorded, Stage
from slipway_serve.verdicts.errors import ServiceUnreachableError

if TYPE_CHECKING:
    import httpx

__all__ = ["PAUSES_S", "VerdictClient"]

PAUSES_S: Final = (1.0, 4.0, 10.0)
"""Before each further attempt."""
TIMEOUT_S: Final = 120.0
"""A minute of windows is judged again in about a second; others may be before it."""
AGAIN: Final = frozenset({408, 502, 503, 504})

T = TypeVar("T")


class _Problem(Struct, frozen=True):
    detail: str = ""
    hint: str | None = None
    code: str = ""


class VerdictClient:
    """Speaks to one service.

    Args:
        url: `https://HOST:PORT`.
        key: API key; empty: none is sent.
        authority: PEM file of the CA that issued the service's certificate; None: those of this machine.
        pauses_s: before each further attempt.
        wait: lets a pause pass.

    Raises:
        FileError: the CA file cannot be used.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        authority: Path | None = None,
        pauses_s: Sequence[float] = PAUSES_S,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._pauses_s = tuple(pauses_s)
        self._wait = wait
        self._verify: ssl.SSLContext | bool = True
        if authority is not None:
            try:
                self._verify = ssl.create_default_context(cafile=str(authority))
            except OSError as error:
                reason = error.strerror or str(error)
                raise FileError(f"the CA file {str(authority)!r} cannot be used: {reason}") from error

    def post(self, evidence: bytes) -> Recorded:
        """Post evidence; blocks until the service has it on its disk, or has refused it in every attempt.

        Raises:
            ServiceUnreachableError: it does not answer, or refuses; the message has its reason.
        """
        return self._asked("POST", "/evidence", Recorded, content=evidence)

    def ask(self, stage: Stage) -> Answer:
        """What is known about a stage; raises as `post`."""
        asked = {"rollout": stage.rollout, "pod_hash": stage.pod_hash, "stage": stage.stage}
        return self._asked("GET", "/verdict", Answer, params=asked)

    def freeze(self, rollout: str, reason: str, until: datetime | None) -> Freeze:
        """Let nothing of a rollout (`*`: of any) pass until then (None: until `unfreeze`); raises as `post`."""
        wanted = {"rollout": rollout, "reason": reason, "until": until}
        return self._asked("PUT", "/freeze", Freeze, content=msgspec.json.encode(wanted))

    def unfreeze(self, rollout: str) -> None:
        """Take back what was frozen under exactly this name; raises as `post`, also when nothing was."""
        self._asked("DELETE", "/freeze", dict[str, str], params={"rollout": rollout})

    def _asked(
        self, method: str, path: str, answered: type[T], *, content: bytes | None = None, params: object = None
    ) -> T:
        import httpx

        why = ""
        with httpx.Client(timeout=TIMEOUT_S, verify=self._verify, headers=self._headers, trust_env=False) as client:
            for pause in (0.0, *self._pauses_s):
                if pause:
                    self._wait(pause)
                try:
                    answer = client.request(method, self._url + path, content=content, params=params)  # type: ignore[arg-type]  # strings to strings
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    why = str(error) or type(error).__name__
                    if "certificate verify failed" in why:  # the same the next time
                        break
                    continue
                if answer.is_success:
                    return self._decoded(answer, answered)
                why = _said(answer)
                if answer.status_code not in AGAIN:
                    break
        raise ServiceUnreachableError(
            f"the verdict service at {self._url} did not take part: {why}",
            hint="its log says more; `slipway gate serve` starts one",
            url=self._url,
        )

    def _decoded(self, answer: "httpx.Response", answered: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=answered)
        except msgspec.MsgspecError as error:
            raise ServiceUnreachableError(
                f"{self._url} answered something else than a verdict service: {error}", url=self._url
            ) from error


def _said(answer: "httpx.Response") -> str:
    """A problem document in one line."""
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.MsgspecError:
        return f"status {answer.status_code}"
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{answer.status_code}: {problem.detail}{hint}"
