"""The errors of building images; the rest of the tree is in `slipway_bundle.errors`.

    UsageError
    ├── BaseError             image_base        none, not by digest, without Python, or with musl
    ├── ImagePlatformError    image_platform    a platform that images are not built for, or that the base has not
    ├── MemberError           image_member      a workspace package that is not installed here as the bundle wants it
    └── WheelMissingError     wheel_missing     a package has no wheel for the platform
    IntegrityError
    └── WheelMismatchError    wheel_mismatch    a wheel that is not what the lock says
    HostError
    └── DownloadError         wheel_download    pip could not fetch the wheels

`ImageSignedError` is in `store_errors.py`, beside what raises it.
"""

from slipway_bundle.errors import HostError, IntegrityError, UsageError


class BaseError(UsageError):
    """There is no base image, it is not named by its digest, or a service cannot run on it."""

    code = "image_base"


class ImagePlatformError(UsageError):
    """A platform that slipway builds no images for, or that the base does not have."""

    code = "image_platform"


class MemberError(UsageError):
    """A package of the workspace is not installed here, or not in the version that the bundle was built with."""

    code = "image_member"


class WheelMissingError(UsageError):
    """A package of the lock has no wheel for the platform: an image is put together, nothing is compiled for it."""

    code = "wheel_missing"


class WheelMismatchError(IntegrityError):
    """A wheel does not have a hash of the lock."""

    code = "wheel_mismatch"


class DownloadError(HostError):
    """pip could not fetch the wheels."""

    code = "wheel_download"
