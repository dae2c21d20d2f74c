"""Which of several media types a client wants: the `Accept` header against what is offered (RFC 9110, 12.5.1).

Lenient on purpose: a client that accepts nothing of what is offered, or sends nonsense, gets the first.
"""

from collections.abc import Sequence


def best_of(accept: bytes, offered: Sequence[str]) -> str:
    """The offered media type that the header ranks highest; among equals, and without a header, the first offered."""
    if not accept or len(offered) == 1:
        return offered[0]
    ranges: dict[str, float] = {}
    for given in accept.decode("latin-1").lower().split(","):
        name, *parameters = [part.strip() for part in given.split(";")]
        ranges[name] = _quality(parameters)

    def rank(media: str) -> float:
        for name in (media, f"{media.partition('/')[0]}/*", "*/*"):
            if name in ranges:
                return ranges[name]
        return 0.0

    return max(offered, key=rank)


def _quality(parameters: list[str]) -> float:
    """The `q` of a media range; 1 when there is none."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
