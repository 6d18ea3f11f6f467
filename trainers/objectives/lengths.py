"""The length of a sentence foretold from its text, measured of the rows that a generator was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.text.normalize import word_count

NAMES = ("frames_per_token", "frames_per_word", "frames_per_sentence")
RULES = ((0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
"""Parts that make a rule."""


def length_rule(tokens: Sequence[int], texts: Sequence[str], frames: Sequence[int]) -> dict[str, float]:
    """`frames_per_token`, and `frames_per_word` and `frames_per_sentence` where they tell more.

    They are the parts of a row's length that each of its tokens, each of its words and the row itself adds. Least
    squares of the frames a token, so that long rows, whose lengths vary more, do not decide what a short one has.
    No part is negative, and the row's own is not alone.
    """
    sizes, lengths = np.maximum(tokens, 1).astype(np.float64), np.asarray(frames, np.float64)
    words = np.array([word_count(text) for text in texts], np.float64)
    parts = np.stack([np.ones_like(sizes), words / sizes, 1 / sizes], axis=1)
    fits = [fit for of in RULES if (fit := _fit(parts, of, lengths / sizes))]
    if not fits:  # no rows, or none with a frame
        return {NAMES[0]: 0.0}
    best = min(error for error, _ in fits)
    # The first that is as good as any: a rule of fewer parts, and words before the sentence.
    return next(rule for error, rule in fits if error <= best * (1 + 1e-9) + 1e-12)


def _fit(
    parts: NDArray[np.float64], of: tuple[int, ...], wanted: NDArray[np.float64]
) -> tuple[float, dict[str, float]] | None:
    """Squared error and rule of some of the parts; None where they tell the same, or one is not positive."""
    columns = parts[:, of]
    rule, _, rank, _ = np.linalg.lstsq(columns, wanted, rcond=None)
    if rank < len(of) or not (rule > 0).all():
        return None
    error = float(np.square(columns @ rule - wanted).sum())
    return error, {NAMES[0]: 0.0} | {NAMES[part]: float(value) for part, value in zip(of, rule, strict=True)}
