"""Waves -> semantic tokens, and the latents that they are quantized from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from catalog.token_columns import pack_latents
from models.identity import TokenIdentity
from models.semantic.source import TokenizerSource
from models.tasks import SPEAK
from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.rows import waves, with_column

if TYPE_CHECKING:
    from models.semantic.tokenizer import SemanticTokenizer


@dataclass(frozen=True)
class SemanticSettings(TokenizerSource):
    """The tokenizer of the column `semantic_codes`."""

    latents: bool = False
    """Fill `latents`, too, with what RepCodec quantizes."""


class SemanticTokens:
    """A tokenizer on waves of any rate; each wave is coded by itself, so nothing depends on the batch."""

    def __init__(self, settings: SemanticSettings, device: str = "cpu", threads: int = 1) -> None:
        """Load the tokenizer. ValueError if it has no latents and `settings` want them."""
        import torch

        from models.semantic.tokenizer import SemanticTokenizer
        from models.tokenizer_sources import load_tokenizer

        if device == "cpu":
            torch.set_num_threads(threads)
        self._tokenizer, self._device = load_tokenizer(settings, device), device
        self._latent: SemanticTokenizer | None = None
        if settings.latents:
            if not isinstance(self._tokenizer, SemanticTokenizer):
                raise ValueError(
                    f"{self._tokenizer.identity.source} has no latents; set semantic.latents to false"
                )
            self._latent = self._tokenizer

    @property
    def columns(self) -> dict[str, TokenIdentity]:
        """Makers of the columns."""
        made = {"semantic_codes": self._tokenizer.identity}
        return made if self._latent is None else {**made, "latents": self._latent.latents}

    def __call__(self, wave: Samples, sample_rate: int) -> dict[str, object]:
        """Values of the columns for a wave (T,); None if it is too long for the tokenizer, or too short for a frame."""
        import torch

        nothing = dict.fromkeys(self.columns)
        samples = resample(wave, sample_rate, self._tokenizer.sample_rate)
        longest = self._tokenizer.max_samples
        if not len(samples) or (longest is not None and len(samples) > longest):
            return nothing
        wave_BT = torch.from_numpy(np.array(samples, dtype=np.float32))[None].to(self._device)
        lengths_B = torch.tensor([len(samples)], device=self._device)
        with torch.inference_mode():
            if self._latent is None:
                codes = self._tokenizer.encode(wave_BT, lengths_B)
            else:
                latents = self._latent.encode_latents(wave_BT, lengths_B)
                codes = self._latent.quantize(latents)
        frames = int(codes.lengths_B[0])
        if not frames:
            return nothing
        found: dict[str, object] = {
            "semantic_codes": codes.codes_BQT[0, 0, :frames].to(torch.int32).cpu().numpy()
        }
        if self._latent is not None:
            found["latents"] = pack_latents(latents.latents_BTD[0, :frames].cpu().numpy())
        return found


class SemanticStage:
    """Rows in flight -> the same rows with `semantic_codes`, and `latents` if wanted.

    They are null in rows without samples and in those for speech tasks.
    """

    def __init__(
        self, settings: SemanticSettings, sample_rate: int, device: str = "cpu", threads: int = 1
    ) -> None:
        """`sample_rate` is that of the rows."""
        self._tokens, self._sample_rate = SemanticTokens(settings, device, threads), sample_rate

    def __call__(self, table: pa.Table) -> pa.Table:
        """Code every row that has samples."""
        tasks = table["task"].to_pylist() if "task" in table.column_names else [None] * len(table)
        found = [
            self._tokens(wave, self._sample_rate) if wave is not None and task in (None, SPEAK) else {}
            for wave, task in zip(waves(table), tasks, strict=True)
        ]
        for name in self._tokens.columns:
            table = with_column(table, name, [one.get(name) for one in found])
        return table
