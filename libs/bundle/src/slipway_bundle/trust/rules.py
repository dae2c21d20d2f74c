"""The rules of `policy.toml` that look at the bundle itself: images, licences, formats, age.

They read documents and open no weights. The invariant: what a bundle does not say does not meet a rule.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

from slipway_bundle.durations import parse_duration
from slipway_bundle.errors import HostError
from slipway_bundle.policy import AgePolicy, FormatPolicy, ImagePolicy, LicencePolicy, Policy
from slipway_bundle.references import Ref
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle
from slipway_bundle.trust.findings import Finding

__all__ = ["Place", "age", "formats", "images", "licences", "listed"]

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"


class Place(NamedTuple):
    """What a rule looks at."""

    store: Store
    bundle: StoredBundle
    ref: Ref | None
    """The name that it was asked for by; None when it was a digest."""

    policy: Policy
    now: datetime

    @property
    def shown(self) -> str:
        """How commands in hints call the bundle."""
        manifest = self.bundle.manifest
        return f"{manifest.name}:{manifest.version}" if self.ref is None else self.ref.text


def images(place: Place, table: ImagePolicy) -> Iterator[Finding]:
    """`[images]`: each runnable image names a base that is allowed. The names are part of what was signed."""
    found = place.bundle.children.get("image", ())
    if not found:
        yield Finding(
            rule="images.required",
            status="refused" if table.required else "skipped",
            got="no runnable image in the bundle",
            expected="one" if table.required else "",
            hint=f"`slipway bundle image {place.shown}` adds one, before it is signed" if table.required else None,
        )
    for number, image in enumerate(found):
        digest, name = image.annotations.get(BASE_DIGEST), image.annotations.get(BASE_NAME)
        shown = f"image {number + 1} of {len(found)} on {name or 'an unnamed base'} ({digest or 'no digest'})"
        if _is_allowed(digest, name, table.bases):
            yield Finding(rule="images.bases", status="ok", got=shown)
        else:
            yield Finding(
                rule="images.bases",
                status="refused",
                got=shown,
                expected=f"one of {listed(table.bases)}",
                hint="build the image on an allowed base (`slipway bundle image --base`), or add the base to "
                "`images.bases` after a review",
            )


def _is_allowed(digest: str | None, name: str | None, bases: Sequence[str]) -> bool:
    # A name counts only with a digest beside it: a tag alone could have been anything on the day of the build.
    if digest is None:
        return False
    plain = (name or "").partition("@")[0]
    repository = plain.rpartition(":")[0] if ":" in plain.rpartition("/")[2] else plain
    return any(
        base in {digest, f"{repository}@{digest}"} or (name is not None and fnmatchcase(repository, base))
        for base in bases
    )


def licences(place: Place, table: LicencePolicy) -> Iterator[Finding]:
    """`[licences]`: every licence expression can be met with allowed licences alone."""
    stated = place.bundle.manifest.licenses
    if not stated:
        yield Finding(
            rule="licences.allow",
            status="refused",
            got="no licence",
            expected=f"one of {listed(table.allow)}",
            hint='state it in slipway.toml: `[bundle] licenses = ["…"]`, and build again',
        )
    for expression in stated:
        missing = _unmet(expression, frozenset(table.allow))
        if missing is None:
            yield Finding(rule="licences.allow", status="ok", got=expression)
        else:
            yield Finding(
                rule="licences.allow",
                status="refused",
                got=f"{expression!r}: {missing}",
                expected=f"only {listed(table.allow)}",
                hint="use a model under an allowed licence, or add this one to `licences.allow` after a review",
            )


def _unmet(expression: str, allowed: frozenset[str]) -> str | None:
    """Why an SPDX expression cannot be met with `allowed`; None when it can."""
    try:
        from license_expression import ExpressionError, get_spdx_licensing  # type: ignore[import-untyped]  # no stubs
    except ImportError as error:
        raise HostError(
            f"licences are read by a library that is not installed: {error}", hint="install `slipway-bundle[trust]`"
        ) from error
    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(expression, validate=True)
    except ExpressionError as error:
        return f"not an SPDX expression ({error})"
    if parsed is None:
        return "empty"
    known = {
        symbol: licensing.TRUE if symbol.render("{symbol.key}") in allowed else licensing.FALSE
        for symbol in parsed.symbols
    }
    if parsed.subs(known).simplify() == licensing.TRUE:
        return None
    unknown = sorted(str(symbol) for symbol, value in known.items() if value == licensing.FALSE)
    return f"{', '.join(unknown)} not allowed"


def formats(place: Place, table: FormatPolicy) -> Iterator[Finding]:
    """`[formats]`: every model has an allowed format, and loading it may do no more than is allowed."""
    for model in place.bundle.manifest.models:
        asked = (("allow", model.format, table.allow), ("trust", model.trust, table.trust))
        for rule, got, allowed in asked:
            if allowed is None:
                continue
            is_met = got in allowed
            yield Finding(
                rule=f"formats.{rule}",
                status="ok" if is_met else "refused",
                got=f"model {model.name!r} is {got}",
                expected="" if is_met else f"one of {listed(allowed)}",
                hint=None if is_met else "save the model in an allowed format (docs/bundle-v1.md, section 4.1)",
            )


def age(place: Place, table: AgePolicy) -> Iterator[Finding]:
    """`[age]`: the bundle says when it was made, and that is not too long ago."""
    created = place.bundle.manifest.created
    if created is None:
        yield Finding(
            rule="age.max",
            status="refused",
            got="a bundle that does not say when it was made",
            expected=f"at most {table.max} old",
            hint="build it from a commit, or with SOURCE_DATE_EPOCH set",
        )
        return
    made = datetime.fromisoformat(created)
    is_young = place.now - made <= parse_duration(table.max)
    yield Finding(
        rule="age.max",
        status="ok" if is_young else "refused",
        got=f"made {created}, {(place.now - made).days} days ago",
        expected="" if is_young else f"at most {table.max}",
        hint=None if is_young else "train and build again, or take a newer version",
    )


def listed(names: Sequence[str]) -> str:
    """`a, b or c`, for messages."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
