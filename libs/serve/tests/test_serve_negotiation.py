"""Which media type a client gets."""

import pytest

from slipway_serve.negotiation import best_of

PICTURES = ("image/png", "image/jpeg")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"", "image/png"),
        (b"*/*", "image/png"),
        (b"image/jpeg", "image/jpeg"),
        (b"IMAGE/JPEG;q=0.8, */*;q=0.1", "image/jpeg"),
        (b"image/*;q=0.5, image/jpeg;q=0.9", "image/jpeg"),
        (b"image/*, image/jpeg;q=0.2", "image/png"),
        (b"text/html", "image/png"),
        (b"image/jpeg;q=nonsense", "image/png"),
        (b"\xff,;;q=,", "image/png"),
    ],
)
def test_the_highest_rank_wins_and_the_first_among_equals(accept: bytes, chosen: str) -> None:
    assert best_of(accept, PICTURES) == chosen
