"""Waves -> vectors of an embedder: alone for rows of a dataset, or in buckets of similar length for files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from catalog.token_columns import pack_latents
from models.identity import TokenIdentity
from models.semantic.source import EmbedderSource
from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.stages.codec import buckets

Matrix = npt.NDArray[np.float32]


class Vectors:
    """An embedder, loaded."""

    def __init__(self, source: EmbedderSource, device: str = "cpu", threads: int = 1) -> None:
        """ValueError or FileNotFoundError names the part that is missing or does not fit."""
        import torch

        from models.tokenizer_sources import load_embedder

        if device == "cpu":
            torch.set_num_threads(threads)
        self._embedder, self._device = load_embedder(source, device), device

    @property
    def identity(self) -> TokenIdentity:
        """The maker of the vectors."""
        return self._embedder.identity

    @property
    def columns(self) -> dict[str, TokenIdentity]:
        """Makers of the columns that `__call__` fills."""
        return {"latents": self.identity}

    def __call__(self, wave: Samples, sample_rate: int) -> dict[str, object]:
        """`latents` of a wave (T,), coded alone; None if it is too long for the embedder, or too short for a vector."""
        samples = resample(wave, sample_rate, self.identity.sample_rate)
        if self.refusal(len(samples)):
            return {"latents": None}
        ((_, vectors_TD),) = self.of_all([samples], 0.0)
        return {"latents": pack_latents(vectors_TD) if len(vectors_TD) else None}

    def refusal(self, samples: int) -> str | None:
        """The reason why a wave of so many samples is not taken, or None."""
        longest, rate = self._embedder.max_samples, self.identity.sample_rate
        if longest is not None and samples > longest:
            return f"{samples / rate:g} s long; {self.identity.name} takes at most {longest / rate:g} s"
        return None if samples else "holds no samples"

    def of_all(self, waves: Sequence[Samples], batch_s: float) -> Iterator[tuple[int, Matrix]]:
        """(number, vectors (T, D)) of every wave, in no particular order; calls hold `batch_s` padded seconds."""
        import torch

        from models.layers.masks import pad_rows

        lengths = [len(wave) for wave in waves]
        for group in buckets(lengths, round(batch_s * self.identity.sample_rate)):
            rows = [torch.from_numpy(np.array(waves[number], dtype=np.float32)) for number in group]
            wave_BT, mask_BT = pad_rows(rows)
            with torch.inference_mode():
                found = self._embedder.embed(wave_BT.to(self._device), mask_BT.sum(dim=1).to(self._device))
            vectors_BTD = found.latents_BTD.float().cpu().numpy()
            for number, vectors_TD, frames in zip(group, vectors_BTD, found.lengths_B.tolist(), strict=True):
                yield number, vectors_TD[:frames]
