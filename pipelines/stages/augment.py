"""Noisy copies of utterances, made before the codec: the same words, other codes."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from pipelines.audio.containers import Samples
from pipelines.rows import Part, explode, waves


class AugmentStage:
    """Each accepted row -> the row and `copies - 1` further ones with white noise, right behind it.

    A copy's id is `<id>#aug1`, `#aug2`, ...; it has the recording of its original, and so its split. Its noise follows
    from its id alone. After alexeyrodriguez/toktts@8d67e39, where validation rows get copies, too.
    """

    def __init__(self, copies: int, noise_std: float) -> None:
        """`noise_std` in units of full scale."""
        self._copies, self._noise_std = copies, noise_std

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rejected rows get no copies."""
        ids, parts = table["id"].to_pylist(), []
        for row, (row_id, wave) in enumerate(zip(ids, waves(table), strict=True)):
            parts.append(Part(row, wave))
            if wave is not None:
                copies = [f"{row_id}#aug{number}" for number in range(1, self._copies)]
                parts += [Part(row, noisy(wave, self._noise_std, copy), {"id": copy}) for copy in copies]
        return explode(table, parts)


def noisy(wave: Samples, noise_std: float, seed: str) -> Samples:
    """The wave with white Gaussian noise that follows from `seed`, within full scale."""
    digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    noise = generator.standard_normal(len(wave), dtype=np.float32) * np.float32(noise_std)
    return np.clip(wave + noise, -1.0, 1.0)
