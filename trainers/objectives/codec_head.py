"""Training of the embedded codec's waveform head: its encoder and codebooks stay, so the same recording has the same
codes, and the head learns how to sound what they say.

`init` is the trained codec whose codes are decoded: a codec directory, or an embedded edition such as `mill-16khz@1`.

Shape suffixes as in `models/codecs/mill/network.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoints import Record
from models.codecs.mill.codec import load_directory, save_directory
from models.codecs.mill.head import HeadConfig, WaveHead
from models.codecs.mill.network import MillConfig, MillNetwork
from trainers.data import CodesBatch
from trainers.objectives import DataInfo, Sample
from trainers.objectives.codec import before_and_after, kept_levels, snapshot, sum_levels
from trainers.objectives.waveform import Reconstruction, WaveformObjective, WaveformSettings


@dataclass(frozen=True)
class CodecHeadSettings(WaveformSettings):
    """Name and training data of the head, besides the losses of its waves."""

    name: str = "mill-16khz"
    """What the exported codec is called."""
    edition: str = "2"
    level_dropout: float = 0.2
    """Share of rows that are decoded from a random number of first levels."""
    search_width: int = 1
    """Beginnings kept while codes are looked for; below the codec's own width training is faster, and its codes are a
    little worse than those that the head will decode."""
    magnitude_weight: float = 1.0
    """L1 between log-magnitudes of the wave, over the codec's own spectra and floor, as its decoder was trained."""
    decoder_lr_scale: float = 0.0
    """Learning rate of the magnitude decoder relative to the head's; 0 leaves it as it is."""
    export_contrast: float | None = None
    """Contrast of the exported codec and of what is heard at validations; the training's (model.contrast) if absent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.level_dropout <= 1:
            raise ValueError(f"level_dropout is {self.level_dropout}: must be in [0, 1]")
        if self.search_width < 1:
            raise ValueError(f"search_width is {self.search_width}: must be at least 1")
        for name in ("magnitude_weight", "decoder_lr_scale"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must not be negative")
        if self.export_contrast is not None and self.export_contrast <= 0:
            raise ValueError(f"export_contrast is {self.export_contrast}: must be above 0")


class CodecHeadObjective(WaveformObjective):
    """The wave of a frozen codec's codes, compared with the recording over many resolutions and by discriminators."""

    model_config = MillConfig
    settings = CodecHeadSettings

    def __init__(self, model: MillConfig, settings: CodecHeadSettings, data: DataInfo) -> None:
        super().__init__(settings, data, model.hop_length)
        self.config = replace(model, head=model.head or HeadConfig())
        self.choices = settings
        self.network = MillNetwork(self.config).requires_grad_(False)
        self.head.requires_grad_(True)
        if settings.decoder_lr_scale:
            self.network.decoder.requires_grad_(True)
        self.warm = False

    @property
    def head(self) -> WaveHead:
        """The module that is trained."""
        assert self.network.head is not None
        return self.network.head

    @classmethod
    def derive(cls, settings: Any, data: DataInfo) -> Record:  # noqa: ARG003
        """The codec works at the sample rate of its data."""
        return {"sample_rate": data.sample_rate}

    def networks(self) -> Sequence[nn.Module]:
        """The head."""
        return [self.head]

    def generator_groups(self) -> list[Record]:
        """The head, and the magnitude decoder if it learns."""
        groups: list[Record] = [{"params": list(self.head.parameters())}]
        scale = self.choices.decoder_lr_scale
        return (
            [*groups, {"params": list(self.network.decoder.parameters()), "lr_scale": scale}]
            if scale
            else groups
        )

    def initialise(self, batches: Iterable[CodesBatch], generator: torch.Generator) -> None:  # noqa: ARG002
        """Refuse to train the head of nothing."""
        if not self.warm:
            raise ValueError(
                "family codec_head trains the head of a trained codec: name that codec with `init`"
            )

    def warm_start(self, directory: Path) -> None:
        """Take the codec in `directory`, whose codes are decoded, and its head if it has one of the same sizes.

        ValueError where the codec has other sizes; head, contrast, noise and Griffin-Lim may differ.
        """
        network = load_directory(directory).network
        found = network.config
        same = replace(
            self.config,
            head=found.head,
            contrast=found.contrast,
            griffin_lim_iterations=found.griffin_lim_iterations,
            griffin_lim_start=found.griffin_lim_start,
            noise_from_hz=found.noise_from_hz,
        )
        if same != found:
            raise ValueError(f"{directory} holds a codec of {found}, not of {self.config}")
        weights = network.state_dict()
        if found.head != self.config.head:
            weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        self.network.load_state_dict({**self.network.state_dict(), **weights})
        self.warm = True

    def reconstruct(self, wave_BN: Tensor, generator: torch.Generator) -> Reconstruction:
        """Codes of the wave, as many levels of them as are kept, and the wave that they sound like."""
        network, per_frame = self.network, self.config.spectra_per_frame
        dropout = self.choices.level_dropout if self.training else 0.0
        kept_B = kept_levels(len(wave_BN), self.config.n_codebooks, dropout, generator)
        with torch.autocast(wave_BN.device.type, enabled=False):
            latents_BTD = self._quantized(wave_BN, kept_B.to(wave_BN.device))
            magnitudes_BSF = network.from_log(network.decode(latents_BTD))
        made_BN = network.wave(magnitudes_BSF, latents_BTD.repeat_interleave(per_frame, dim=1))
        magnitude = self._log_magnitude_distance(made_BN, wave_BN)
        return Reconstruction(made_BN, {"magnitude": (self.choices.magnitude_weight, magnitude)})

    def _log_magnitude_distance(self, made_BN: Tensor, wave_BN: Tensor) -> Tensor:
        with torch.autocast(wave_BN.device.type, enabled=False):
            made, real = (
                torch.log(self.network.magnitudes(wave.float()) + self.config.log_floor)
                for wave in (made_BN, wave_BN)
            )
        return functional.l1_loss(made, real)

    def samples(self, batch: CodesBatch, generator: torch.Generator) -> list[Sample]:  # noqa: ARG002
        """Every row before and after the codec."""
        return before_and_after(snapshot(self.network, self.choices.export_contrast), batch)

    def export(self, directory: Path) -> None:
        """Write a codec directory for `models.codecs.load_codec`."""
        choices = self.choices
        save_directory(self.network, directory, choices.name, choices.edition, choices.export_contrast)

    @torch.no_grad()
    def _quantized(self, wave_BN: Tensor, kept_B: Tensor) -> Tensor:
        """The latents (B, T, D) of the first levels of a wave's codes."""
        network = self.network
        latents_BTD = network.encode(network.log_mel(network.magnitudes(wave_BN)))
        codes_NQ = network.quantizer.search(latents_BTD.flatten(0, 1), self.choices.search_width)
        rows, frames, channels = latents_BTD.shape
        vectors_BTQD = network.quantizer.lookup(codes_NQ).reshape(rows, frames, -1, channels)
        return sum_levels(vectors_BTQD, kept_B)
