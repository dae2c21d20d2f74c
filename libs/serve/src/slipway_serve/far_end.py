"""The server behind a remote lane: its address, what can be asked of it, and what it raises.

Two modules are such ends: remote_rest.py and oip/client.py. They translate and nothing else; remote.py decides what is
sent and judges what comes back.

    PredictError
    └── RemoteFailed        remote_failed        the far end refused the batch, or answered something else
    HostError
    └── RemoteUnavailable   remote_unavailable   it cannot be reached, is overloaded, or did not answer in time
    UsageError
    └── RemoteMismatch      remote_mismatch      its tensors are not those of the declaration
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle import ConfigError, HostError, TensorSpec, UsageError
from slipway_bundle.weights import PredictError
from slipway_serve.protocol import TensorMetadata
from slipway_serve.tensors import Given

PORTS: Final[Mapping[str, int]] = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}
"""Port of a URL that names none; Triton's and ours."""
NO_HEADERS: Final[Mapping[str, str]] = {}
"""Of a call that is made on nobody's behalf."""
OUTPUTS: Final = "$.outputs"
ANSWER_BYTES: Final = 256 * 1024 * 1024
"""The largest answer that is read."""
SENTENCE: Final = 400
"""Characters of a far end's own words that are repeated."""


class RemoteFailed(PredictError):
    """The far end refused the batch, or its answer is not what its metadata says."""

    code = "remote_failed"


class RemoteUnavailable(HostError):
    """The far end cannot be reached, is overloaded, or did not answer in time; another batch may fare better."""

    code = "remote_unavailable"


class RemoteMismatch(UsageError):
    """The far model's tensors are not those of the declaration."""

    code = "remote_mismatch"


class Address(NamedTuple):
    """A `remote = …` of the configuration."""

    url: str
    scheme: str
    host: str
    """With the port, e.g. `triton:8001`."""
    model: str


class FarModel(Struct, frozen=True, kw_only=True):
    """Metadata of a model, as far as it matters here; other members are ignored."""

    name: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class Sent(NamedTuple):
    """One input of a call; `array` has the datatype of `spec`, or one that can be cast to it."""

    spec: TensorSpec
    array: NDArray[Any]


class FarEnd(Protocol):
    """One transport to one server; thread-safe. Every question blocks up to its timeout, in seconds.

    All of them raise RemoteUnavailable and RemoteFailed.
    """

    def server_name(self, timeout_s: float) -> str:
        """What the server calls itself."""

    def describe(self, timeout_s: float) -> FarModel:
        """The metadata of the address's model."""

    def infer(
        self, inputs: Sequence[Sent], outputs: Sequence[str], timeout_s: float, headers: Mapping[str, str]
    ) -> list[Given]:
        """One call: the outputs as they were answered; their paths begin with `$.outputs`.

        `headers` travel with it, over gRPC as metadata; names in lower case.

        Raises:
            Problem: 400; the answer's data are not where they should be.
        """

    def close(self) -> None:
        """Close the connections; calls that run fail."""


def parse_remote(url: str) -> Address:
    """The parts of a `remote = …`.

    Raises:
        ConfigError: it is not `SCHEME://HOST[:PORT]/MODEL`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"remote {url!r} is not usable: {error}") from error
    model = parts.path.strip("/")
    extra = parts.query or parts.fragment or parts.username
    if parts.scheme not in PORTS or not parts.hostname or not model or "/" in model or extra:
        raise ConfigError(
            f"remote {url!r} is not usable, expected SCHEME://HOST[:PORT]/MODEL",
            hint=f"the scheme is one of {', '.join(PORTS)}, e.g. 'grpc://triton:8001/churn'",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(url, parts.scheme, f"{host}:{PORTS[parts.scheme] if port is None else port}", model)
