"""Downloads: a blob comes in, cut off as often as it likes, and is right or is not there.

The invariant: bytes are added to what is there only where the registry says that they continue it, and the digest
decides at the end whether that was true.
Source: RFC 9110, section 14 (ranges); OCI distribution-spec v1.1, "Pulling blobs".
"""

import re
from contextlib import closing

import httpx

from slipway_bundle.disk import disk_errors
from slipway_bundle.ingest import Incoming
from slipway_bundle.oci import Descriptor
from slipway_bundle.progress import Progress
from slipway_bundle.registry.errors import RegistryError, TamperedError
from slipway_bundle.registry.transport import Transport
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobCorruptError

__all__ = ["download"]

_RANGE = re.compile(r"^bytes ([0-9]+)-")


def download(
    transport: Transport, target: str, scope: str, descriptor: Descriptor, store: Store, progress: Progress
) -> None:
    """Bring one blob into `store`; blocks until it is there or has failed for good.

    Raises:
        RemoteNotFoundError: The registry does not have it.
        TamperedError: What comes has another digest or size.
        RegistryError: It broke off again and again without one more byte.
        HostError: The store does not take it.
    """
    with (
        store.lease(),
        disk_errors(store.root, f"storing blob {descriptor.digest}"),
        Incoming(store, descriptor, progress=progress) as incoming,
    ):
        failures = 0
        while True:
            before = incoming.size
            is_continued = before > 0
            try:
                if before < descriptor.size:
                    _receive(transport, target, scope, descriptor, incoming)
                incoming.finish()
            except BlobCorruptError as error:
                incoming.restart()
                if is_continued:  # the beginning was another run's, and may be what is wrong
                    continue
                raise TamperedError(
                    f"{error.message}, from {transport.host!r}",
                    hint="somebody between here and the registry changed it, or the registry is damaged",
                    expected=descriptor.digest,
                ) from error
            except RegistryError as error:
                failures = failures + 1 if incoming.size <= before else 1
                if not (error.fields.get("passing") and transport.pause(failures)):
                    raise
            else:
                return


def _receive(transport: Transport, target: str, scope: str, descriptor: Descriptor, incoming: Incoming) -> None:
    """One answer's bytes, to its end."""
    what = f"reading blob {descriptor.digest}"
    headers = {"range": f"bytes={incoming.size}-"} if incoming.size else {}
    response = transport.request("GET", target, what=what, expected={200, 206, 416}, scope=scope, headers=headers)
    with closing(response):
        begins = _RANGE.match(response.headers.get("content-range", ""))
        if response.status_code == 416 or (response.status_code == 206 and _start(begins) != incoming.size):
            incoming.restart()
            raise RegistryError(f"registry {transport.host!r} failed while {what}: it cannot go on", passing=True)
        if response.status_code == 200 and incoming.size:
            incoming.restart()  # it knows no ranges
        try:
            for chunk in response.iter_raw():
                incoming.write(chunk)
                if transport.stop.is_set():
                    raise RegistryError(f"stopped while {what}")
        except httpx.HTTPError as error:
            raise RegistryError(
                f"registry {transport.host!r} failed while {what}: it broke off at byte {incoming.size} of "
                f"{descriptor.size} ({type(error).__name__})",
                hint="what arrived is kept; run the same command again to go on",
                passing=True,
            ) from error
    if incoming.size < descriptor.size:
        raise RegistryError(
            f"registry {transport.host!r} failed while {what}: it ended at byte {incoming.size} of {descriptor.size}",
            hint="what arrived is kept; run the same command again to go on",
            passing=True,
        )


def _start(begins: re.Match[str] | None) -> int:
    return int(begins[1]) if begins else -1
