"""Evidence read, its reports written: the only file here that touches a disk.

The invariant: a report is there whole or as it was before; a file that cannot be written is an error with its name.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from slipway_bundle.disk import Temporary, write_all
from slipway_bundle.errors import FileError
from slipway_signals.gate.evidence import open_evidence
from slipway_signals.gate.report.junit import render_junit
from slipway_signals.gate.report.page import render_page
from slipway_signals.gate.report.summary import render_summary
from slipway_signals.gate.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_bundle.trust.keys import TrustedKey

__all__ = ["Written", "write_reports"]


class Written(Struct, frozen=True, kw_only=True):
    """What was written, of which evidence."""

    verdict: Verdict
    digest: str
    signer: str | None
    paths: tuple[str, ...]


def write_reports(
    data: bytes,
    keys: "Sequence[TrustedKey]" = (),
    *,
    html: Path | None = None,
    markdown: Path | None = None,
    junit: Path | None = None,
    link: str | None = None,
) -> Written:
    """Write the reports that have a path; half a second for a minute of windows.

    Args:
        data: Evidence, signed or not.
        keys: Whose signature counts; with keys, unsigned evidence is refused.
        html: The page.
        markdown: The summary.
        junit: The test result.
        link: Where the page will be, for the summary.

    Raises:
        EvidenceError, SignatureError, SignerError: As `open_evidence`.
        FileError: A path cannot be written.
    """
    opened = open_evidence(data, keys)
    evidence, digest = opened.evidence, opened.digest
    texts: list[tuple[Path, bytes]] = []
    if html is not None:
        texts.append((html, render_page(evidence, digest=digest, signer=opened.signer).encode()))
    if markdown is not None:
        texts.append((markdown, render_summary(evidence, digest=digest, report=link).encode()))
    if junit is not None:
        texts.append((junit, render_junit(evidence)))
    for path, text in texts:
        _write(path, text)
    return Written(
        verdict=evidence.decision.verdict,
        digest=digest,
        signer=opened.signer,
        paths=tuple(str(path) for path, _ in texts),
    )


def _write(path: Path, text: bytes) -> None:
    try:
        with Temporary(path.parent) as temporary:
            write_all(temporary.descriptor, text)
            temporary.move_to(path, mode=0o644)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(f"the report {str(path)!r} cannot be written: {reason}", path=str(path)) from error
