"""Noisy copies of utterances, made before the codec: the same words, other codes."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from models.tasks import SPEAK
from pipelines.audio.containers import Samples
from pipelines.rows import Part, explode, waves, with_column
from pipelines.stages.write import split_of


class AugmentStage:
    """Each accepted row of the split train -> the row and `copies - 1` further ones with white noise, right behind it.

    A copy's id is `<id>#aug1`, `#aug2`, ...; its split is `derived`, its task `tts`. Its noise follows from its id
    alone. After alexeyrodriguez/toktts@8d67e39, where validation rows get copies, too.
    """

    def __init__(self, copies: int, noise_std: float, validation: float, seed: int) -> None:
        """`noise_std` in units of full scale; `validation` and `seed` decide the split of recordings whose source does
        not."""
        self._copies, self._noise_std = copies, noise_std
        self._validation, self._seed = validation, seed

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rejected rows, and those of other splits, get no copies."""
        table = with_column(table, "task", pa.nulls(len(table)))
        parts: list[Part] = []
        names = ("id", "recording_id", "split")
        columns = zip(*(table[name].to_pylist() for name in names), waves(table), strict=True)
        for row, (row_id, recording, split, wave) in enumerate(columns):
            parts.append(Part(row, wave))
            if wave is None or (split or split_of(recording, self._validation, self._seed)) != "train":
                continue
            for copy in (f"{row_id}#aug{number}" for number in range(1, self._copies)):
                changes = {"id": copy, "task": SPEAK, "split": "derived"}
                parts.append(Part(row, noisy(wave, self._noise_std, copy), changes))
        return explode(table, parts)


def noisy(wave: Samples, noise_std: float, seed: str) -> Samples:
    """The wave with white Gaussian noise that follows from `seed`, within full scale."""
    digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    noise = generator.standard_normal(len(wave), dtype=np.float32) * np.float32(noise_std)
    return np.clip(wave + noise, -1.0, 1.0)
