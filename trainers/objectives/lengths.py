"""The length of a sentence foretold from its tokens, measured of the rows that a generator was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def length_rule(tokens: Sequence[int], frames: Sequence[int]) -> dict[str, float]:
    """`frames_per_token` and `frames_per_sentence`: the line through the rows (tokens of text, frames of speech).

    Least squares of the frames a token, so that long rows, whose lengths vary more, do not decide what a short one has.
    A line with a negative part, or rows of one size, leave the mean frames a token alone.
    """
    sizes, lengths = np.maximum(tokens, 1).astype(np.float64), np.asarray(frames, np.float64)
    mean = {"frames_per_token": float(lengths.sum() / max(1.0, sizes.sum()))}
    if len(np.unique(sizes)) < 2:
        return mean
    a_token, a_sentence = np.linalg.lstsq(
        np.stack([np.ones_like(sizes), 1 / sizes], axis=1), lengths / sizes, rcond=None
    )[0].tolist()
    if a_token <= 0 or a_sentence <= 0:
        return mean
    return {"frames_per_token": a_token, "frames_per_sentence": a_sentence}
