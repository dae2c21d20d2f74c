"""What lines say: crops through the recogniser, and its probabilities as text.

The network gives one distribution over 6625 classes for each 8 pixels of width. Text is made beside the weights, so a
few bytes travel to the API worker and not a million numbers. The invariant: class 0 is the blank, the last one a space,
and those between are the lines of `alphabet.txt`, which is what the model's own metadata holds (tested).
Source: Connectionist Temporal Classification, https://www.cs.toronto.edu/~graves/icml_2006.pdf, section 3.2.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np

from documents_service.detection import normalised
from slipway_serve import F32, U8, Arrays

BLANK: Final = 0
SLICE: Final = 1_280
"""Columns of pixels in one run of the network. More of them leave a processor's cache: a crop of 640 took 39 ms alone,
52 in a batch of six; one of 1280 took 77 and 109."""


@cache
def alphabet() -> tuple[str, ...]:
    """Class → character; read once a process."""
    characters = (files("documents_service") / "alphabet.txt").read_text("utf-8").removesuffix("\n").split("\n")
    return ("", *characters, " ")


def texts_of(network: Callable[[F32], F32], pixels: U8) -> Arrays:
    """The text of each crop of a batch and how sure the network is.

    Args:
        network: crops `[n, 3, 48, width]` to probabilities `[n, steps, classes]`.
        pixels: `[n, 3, 48, width]`.

    Returns:
        `text` `[n]`, empty where nothing is written, and `score` `[n]`: the mean probability of the characters, or 0.
    """
    size = max(1, SLICE // pixels.shape[3])
    slices = (normalised(pixels[start : start + size]) for start in range(0, len(pixels), size))
    found = [pair for one in slices for pair in _decoded(network(one))]
    texts, scores = [text for text, _ in found], [score for _, score in found]
    return {"text": np.array(texts, np.dtypes.StringDType()), "score": np.array(scores)}


def _decoded(probabilities: F32) -> list[tuple[str, float]]:
    """The best path: the likeliest class of each step, repetitions once, without blanks."""
    best = probabilities.argmax(axis=2)
    sure = np.take_along_axis(probabilities, best[:, :, None], axis=2)[:, :, 0]
    is_kept = best != BLANK
    is_kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    return [
        ("".join([alphabet()[c] for c in row[kept]]), float(sureness[kept].mean()) if kept.any() else 0.0)
        for row, sureness, kept in zip(best, sure, is_kept, strict=True)
    ]
