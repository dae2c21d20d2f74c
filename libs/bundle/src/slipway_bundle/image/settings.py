"""What can be chosen about an image, and what came of it.

It builds nothing. `ImageSettings` is the table `[runtime.image]` of slipway.toml: not hashed, as all of `[runtime]`,
so that another base never changes what a bundle is.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from slipway_bundle.digest import Digest

__all__ = ["Compression", "Image", "ImageLayer", "ImageOptions", "ImagePackage", "ImageSettings", "Imaged"]


Compression = Literal["zstd", "gzip", "none"]


class ImageSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.image]`: how the image of a bundle is made, where nobody says otherwise."""

    base: str | None = None
    """`REGISTRY/REPOSITORY@sha256:…`, or `oci:FOLDER[:TAG]`: an image with Python."""
    platforms: Annotated[tuple[str, ...], Meta(min_length=1)] = ("linux/amd64", "linux/arm64")
    compression: Compression = "zstd"
    """Of the environment's layers: `gzip` for readers that know nothing newer, `none` for none."""


class ImageOptions(Struct, frozen=True, kw_only=True):
    """What a caller wants; None = what the bundle's `[runtime.image]` says, or its default."""

    wheels: Path
    """Folder of the wheel cache, usually `$SLIPWAY_HOME/wheels`."""
    base: str | None = None
    platforms: tuple[str, ...] | None = None
    compression: Compression | None = None


class ImageLayer(Struct, frozen=True, kw_only=True):
    """A layer of an image, from the bottom up."""

    role: str
    """`base`, `environment`, `weights`, `slipway`, `code` or `documents`."""

    digest: Digest
    size: int
    """Bytes as stored: what a pull transfers."""

    is_new: bool
    """Whether the store did not have it before."""


class ImagePackage(Struct, frozen=True, kw_only=True):
    """A package of the environment: its wheel."""

    name: str
    version: str
    wheel: str
    """Name of the file."""

    sha256: str
    size: int
    """Bytes of the wheel, which is compressed."""


class Image(Struct, frozen=True, kw_only=True):
    """One platform's image."""

    platform: str
    digest: Digest
    """Of its manifest."""

    base: Digest
    python: str
    layers: tuple[ImageLayer, ...]
    packages: tuple[ImagePackage, ...]
    """Largest first."""

    def above_base_bytes(self) -> int:
        """Size of the layers that are not the base's, as stored."""
        return sum(layer.size for layer in self.layers if layer.role != "base")


class Imaged(Struct, frozen=True, kw_only=True):
    """What `add_images` made."""

    ref: str
    digest: Digest
    """Of the bundle's index, with its images."""

    content_digest: str
    """As it was before."""

    is_new: bool
    """False when the bundle had exactly these images already."""

    images: tuple[Image, ...]
