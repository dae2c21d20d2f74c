"""What Kubernetes asks before a pod runs, and what it is told: `AdmissionReview` of `admission.k8s.io/v1`.

It judges nothing. The invariant: every image that a pod can run or mount is among `images_of`; a review that cannot be
read is an error, never a yes.
Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/ ("Webhook request and
response"); the pod's fields of Kubernetes 1.36 (`image` volumes: KEP-4639).
"""

from typing import Final, Literal

import msgspec
from msgspec import Struct

from slipway_bundle import UsageError

__all__ = ["Request", "ReviewError", "answer_of", "decode_review", "images_of"]

API: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
REFUSED: Final = 403
MESSAGE_CHARS: Final = 4_000
"""Kubernetes shows the message to whoever made the pod; a longer one helps nobody."""


class ReviewError(UsageError):
    """What was sent is no review of a pod."""

    code = "review_invalid"


class _Container(Struct, frozen=True):
    image: str = ""


class _ImageVolume(Struct, frozen=True):
    reference: str = ""


class _Volume(Struct, frozen=True):
    image: _ImageVolume | None = None


class _PodSpec(Struct, frozen=True, rename="camel"):
    containers: tuple[_Container, ...] = ()
    init_containers: tuple[_Container, ...] | None = ()
    ephemeral_containers: tuple[_Container, ...] | None = ()
    volumes: tuple[_Volume, ...] | None = ()


class _Pod(Struct, frozen=True):
    spec: _PodSpec


class _Kind(Struct, frozen=True):
    kind: str
    group: str = ""


class Request(Struct, frozen=True, rename="camel"):
    """What is to be allowed or refused."""

    uid: str
    """Comes back in the answer."""

    kind: _Kind
    object: _Pod | None = None
    """None when a pod is deleted."""

    old_object: _Pod | None = None
    """What it was, when it is changed."""

    namespace: str = ""
    name: str = ""


class _Review(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Request


class _Status(Struct, frozen=True):
    code: int
    message: str


class _Response(Struct, frozen=True, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    warnings: tuple[str, ...] = ()


class _Answer(Struct, frozen=True, rename="camel"):
    response: _Response
    api_version: Literal["admission.k8s.io/v1"] = API
    kind: Literal["AdmissionReview"] = KIND


def decode_review(body: bytes) -> Request:
    """The request in the body of a review.

    Raises:
        ReviewError: the body is no `AdmissionReview` of version 1 about a pod.
    """
    try:
        review = msgspec.json.decode(body, type=_Review)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReviewError(
            f"the body is no review of a pod: {error}", hint="Kubernetes sends it; people do not"
        ) from error
    if (review.api_version, review.kind) != (API, KIND):
        raise ReviewError(f"the body is {review.kind!r} of {review.api_version!r}, expected {KIND!r} of {API!r}")
    if (review.request.kind.group, review.request.kind.kind) != ("", "Pod"):
        raise ReviewError(
            f"the review is about {review.request.kind.kind!r}, expected 'Pod'",
            hint="the rules of the webhook's configuration name pods only: `slipway policy admission` prints it",
        )
    return review.request


def images_of(request: Request) -> tuple[str, ...]:
    """Every image that the pod runs or mounts and did not before, each once, in the order of its specification.

    Images that a pod runs already are left out of a change of it: to refuse those would keep a pod from being deleted.
    """
    before = _images(request.old_object)
    return tuple(image for image in _images(request.object) if image not in before)


def _images(pod: _Pod | None) -> tuple[str, ...]:
    if pod is None:
        return ()
    spec = pod.spec
    groups = (spec.init_containers, spec.containers, spec.ephemeral_containers)
    named = [container.image for containers in groups for container in containers or ()]
    named += [volume.image.reference for volume in spec.volumes or () if volume.image is not None]
    return tuple(dict.fromkeys(named))


def answer_of(uid: str, refusals: tuple[str, ...], warnings: tuple[str, ...] = ()) -> bytes:
    """The review that goes back: allowed when there is no refusal."""
    status = None
    if refusals:
        status = _Status(code=REFUSED, message="; ".join(refusals)[:MESSAGE_CHARS])
    told = tuple(warning[:256] for warning in warnings)  # Kubernetes truncates there
    return msgspec.json.encode(_Answer(_Response(uid=uid, allowed=not refusals, status=status, warnings=told)))
