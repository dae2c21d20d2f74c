"""The same page has the same answer wherever its models run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_pages import INVOICE, LABEL, drawn, packed

from documents_service.service import Document, Page, infer, service
from slipway_serve import local
from slipway_serve.local import Local

pytestmark = pytest.mark.slow

PAGES = [Page(packed(drawn(INVOICE))), Page(packed(drawn(LABEL, 900, 520)))]


@pytest.fixture(scope="module")
def pooled(folder: Path) -> Iterator[Local]:
    """The service with each model in runner processes of its own."""
    with local(service, folder=folder, lane="pool", timeout_s=60.0) as running:
        yield running


def assert_equal(documents: list[Document], expected: list[Document]) -> None:
    for document, other in zip(documents, expected, strict=True):
        assert [line.text for line in document.lines] == [line.text for line in other.lines]
        scores = [line.score for line in other.lines]
        assert [line.score for line in document.lines] == pytest.approx(scores, abs=0.01)
        corners = np.array([line.box for line in document.lines]) - np.array([line.box for line in other.lines])
        assert np.abs(corners).max() <= 1.0


def test_runners_answer_what_this_process_answers(app: Local, pooled: Local) -> None:
    documents = [pooled.call(infer, page) for page in PAGES]

    assert_equal(documents, [app.call(infer, page) for page in PAGES])
