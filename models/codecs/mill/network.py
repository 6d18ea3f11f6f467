"""The network between spectra and codes: a linear path that is exact from the start, and convolutions that refine it.

Encoder: log-mel spectra -> principal components + convolutional correction -> residual vector quantization.
Decoder: quantized components -> log-mel -> magnitudes by the filters' pseudo-inverse + convolutional correction of
their logarithm; phases by Griffin-Lim, which a learned head may refine (`head.py`). The corrections start at zero, so
before any training this is a classical vector-quantized vocoder.

Shape suffixes: B batch, N samples, T frames, M mel values of a frame, D latent channels, F magnitudes of a frame,
C hidden channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codecs.mill.head import HeadConfig, WaveHead
from models.codecs.mill.spectrum import (
    Start,
    griffin_lim_spectrum,
    magnitudes,
    mel_filters,
    sharpen,
    synthesize,
)
from models.codecs.quantizer import ResidualQuantizer
from models.layers.checks import check_positive

_MOST = {"fft_length": 1 << 16, "n_mels": 1 << 15, "search_width": 1024}
_SIDES = ("encoder", "decoder")
_MOST_DILATION = 4096


@dataclass(frozen=True)
class MillConfig:
    """Sizes of the codec. The defaults are 50 frames per second of 8 codes of 10 bits: 4 kbit/s."""

    sample_rate: int = 16_000
    """Hz."""
    hop_length: int = 320
    """Samples a frame."""
    spectra_per_frame: int = 2
    """Spectra that share a frame's codes; their hop is hop_length / spectra_per_frame."""
    fft_length: int = 512
    n_mels: int = 80
    log_floor: float = 0.01
    """Added to magnitudes before the logarithm: about -85 dB of a full-scale tone."""
    n_codebooks: int = 8
    codebook_size: int = 1024
    latent_channels: int = 80
    encoder_channels: int = 192
    encoder_dilations: tuple[int, ...] = (1, 2, 4, 1)
    decoder_channels: int = 256
    decoder_dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4)
    search_width: int = 8
    """Beginnings that the encoder keeps while it looks for codes; training takes the nearest code at each level."""
    contrast: float = 1.1
    """Exponent of the decoded magnitudes: 1 leaves them as they are, more undoes some of the flattening that comes from
    predicting the middle of what is likely (PESQ-WB 2.85 -> 3.01 at 1.1, STOI unchanged; lower again from 1.2)."""
    griffin_lim_iterations: int = 48
    """Of fast Griffin-Lim."""
    griffin_lim_start: Start = "random"
    """The first edition's random phases, or those of tones, from which half of the iterations is enough: on 24 clips
    STOI 0.934 and PESQ-WB 2.95 after 16, 0.938 and 3.10 after 48; of tones 0.939 and 3.05, 0.940 and 3.08.
    """
    noise_from_hz: float | None = None
    """Where the decoded magnitudes begin to go over to those of noise, which they are an octave above; None, as in the
    first edition, leaves them even, and a buzz of one pulse a spectrum in what should hiss."""
    head: HeadConfig | None = None
    """The learned waveform head of the second edition; None is Griffin-Lim alone."""

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.hop_length % (2 * self.spectra_per_frame):
            raise ValueError(
                f"hop_length is {self.hop_length}: must be a multiple of {2 * self.spectra_per_frame} "
                f"(2 * spectra_per_frame)"
            )
        if self.griffin_lim_iterations < 0:
            raise ValueError(f"griffin_lim_iterations is {self.griffin_lim_iterations}: must not be negative")
        if self.griffin_lim_start not in get_args(Start):
            raise ValueError(
                f"griffin_lim_start is {self.griffin_lim_start!r}: must be one of {', '.join(get_args(Start))}"
            )
        if self.contrast <= 0:
            raise ValueError(f"contrast is {self.contrast}: must be above 0")
        if self.noise_from_hz is not None and not 0 < self.noise_from_hz < self.sample_rate / 2:
            raise ValueError(
                f"noise_from_hz is {self.noise_from_hz:g}: must be above 0 and below {self.sample_rate / 2:g}"
            )
        if self.latent_channels > self.spectra_per_frame * self.n_mels:
            raise ValueError(
                f"latent_channels is {self.latent_channels}: at most spectra_per_frame * n_mels, "
                f"{self.spectra_per_frame * self.n_mels}"
            )

    def _check_sizes(self) -> None:
        """Weights say nothing of these: a wrong one would take all memory, or for ever."""
        check_positive(self, [*_MOST, "hop_length", "spectra_per_frame"])
        found = {name: getattr(self, name) for name in _MOST}
        found |= {f"{name}_dilations": max(getattr(self, f"{name}_dilations"), default=1) for name in _SIDES}
        found["griffin_lim_iterations"] = self.griffin_lim_iterations
        most = {**_MOST, "n_mels": self.fft_length // 2 + 1, "griffin_lim_iterations": 10_000}
        for name, value in found.items():
            if value > most.get(name, _MOST_DILATION):
                raise ValueError(f"{name} is {value}: must be at most {most.get(name, _MOST_DILATION)}")
        if self.spectrum_hop > self.fft_length:
            raise ValueError(
                f"hop_length is {self.hop_length}: must be at most spectra_per_frame * fft_length, "
                f"{self.spectra_per_frame * self.fft_length}"
            )

    @property
    def spectrum_hop(self) -> int:
        """Samples between spectra."""
        return self.hop_length // self.spectra_per_frame

    @property
    def noise_from(self) -> int | None:
        """The bin at `noise_from_hz`."""
        if self.noise_from_hz is None:
            return None
        return max(1, round(self.noise_from_hz * self.fft_length / self.sample_rate))

    @property
    def mel_values(self) -> int:
        """Log-mel values of a frame."""
        return self.spectra_per_frame * self.n_mels

    @property
    def magnitude_values(self) -> int:
        """Log-magnitudes of a frame."""
        return self.spectra_per_frame * (self.fft_length // 2 + 1)


class DilatedBlock(nn.Module):
    """Residual: norm, a width-3 dilated convolution as one matrix product, GELU, projection back."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(3 * channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, hidden_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C); outside the sequence counts as zero."""
        length, step = hidden_BTC.shape[1], self.dilation
        padded = functional.pad(self.norm(hidden_BTC), (0, 0, step, step))
        taps = torch.cat([padded[:, at : at + length] for at in (0, step, 2 * step)], dim=-1)
        change_BTC: Tensor = self.narrow(functional.gelu(self.widen(taps)))
        return hidden_BTC + change_BTC


class Correction(nn.Module):
    """Dilated blocks whose last layer starts at zero. `context`: frames on either side that an output depends on."""

    def __init__(self, inputs: int, channels: int, outputs: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.context = sum(dilations)
        self.enter = nn.Linear(inputs, channels)
        self.blocks = nn.ModuleList(DilatedBlock(channels, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, values_BTM: Tensor) -> Tensor:
        """(B, T, inputs) -> (B, T, outputs)."""
        hidden_BTC = self.enter(values_BTM)
        for block in self.blocks:
            hidden_BTC = block(hidden_BTC)
        values_BTF: Tensor = self.leave(self.norm(hidden_BTC))
        return values_BTF


class MillNetwork(nn.Module):
    """Spectra, encoder, quantizer, decoder and waveform head; no batching rules (see `codec.py`)."""

    filters_FM: Tensor
    inverse_MF: Tensor
    mean_M: Tensor
    scale_M: Tensor

    def __init__(self, config: MillConfig) -> None:
        super().__init__()
        self.config = config
        # Stored with the weights: another library's rounding of the filters must not change codes.
        filters_FM = mel_filters(config.fft_length, config.n_mels, config.sample_rate)
        self.register_buffer("filters_FM", filters_FM)
        self.register_buffer("inverse_MF", torch.linalg.pinv(filters_FM))
        self.register_buffer("mean_M", torch.zeros(config.mel_values))
        self.register_buffer("scale_M", torch.ones(config.mel_values))
        self.project = nn.Linear(config.mel_values, config.latent_channels, bias=False)
        self.encoder = Correction(
            config.mel_values, config.encoder_channels, config.latent_channels, config.encoder_dilations
        )
        self.quantizer = ResidualQuantizer(config.n_codebooks, config.codebook_size, config.latent_channels)
        self.expand = nn.Linear(config.latent_channels, config.mel_values)
        self.decoder = Correction(
            config.latent_channels, config.decoder_channels, config.magnitude_values, config.decoder_dilations
        )
        self.head = self._head(config.head) if config.head is not None else None

    def _head(self, sizes: HeadConfig) -> WaveHead:
        config = self.config
        return WaveHead(
            sizes, config.fft_length, config.spectrum_hop, config.latent_channels, config.log_floor
        )

    @property
    def encoder_context(self) -> int:
        """Frames of the wave on either side that a frame's codes depend on."""
        return self.encoder.context + -(-self.config.fft_length // self.config.hop_length)

    def magnitudes(self, wave_BN: Tensor) -> Tensor:
        """Wave of whole frames -> magnitudes (B, T, spectra_per_frame, bins)."""
        config = self.config
        magnitudes_BSF = magnitudes(wave_BN, config.fft_length, config.spectrum_hop)
        return self.by_frame(magnitudes_BSF)

    def by_frame(self, magnitudes_BSF: Tensor) -> Tensor:
        """Consecutive spectra -> (B, T, spectra_per_frame, bins)."""
        rows, spectra, bins = magnitudes_BSF.shape
        per_frame = self.config.spectra_per_frame
        return magnitudes_BSF.reshape(rows, spectra // per_frame, per_frame, bins)

    def log_mel(self, magnitudes_BTSF: Tensor) -> Tensor:
        """Magnitudes -> log-mel values (B, T, M)."""
        return torch.log(magnitudes_BTSF @ self.filters_FM + self.config.log_floor).flatten(2)

    def encode(self, mel_BTM: Tensor) -> Tensor:
        """Log-mel values -> latents (B, T, D), not yet quantized."""
        centred_BTM = mel_BTM - self.mean_M
        latents_BTD: Tensor = self.project(centred_BTM) + self.encoder(centred_BTM / self.scale_M)
        return latents_BTD

    def decode(self, latents_BTD: Tensor) -> Tensor:
        """Latents -> log(magnitude + log_floor), (B, T, spectra_per_frame * bins)."""
        rows, frames, _ = latents_BTD.shape
        mel_BTSM = self.expand(latents_BTD).float().reshape(rows, frames, -1, self.config.n_mels)
        # A wave in [-1, 1] stays below exp(6); the bound keeps a wild prediction from overflowing.
        power_BTSM = mel_BTSM.clamp(max=8.0).exp() - self.config.log_floor
        linear_BTSF = (power_BTSM @ self.inverse_MF).clamp(min=0.0)
        start_BTF = torch.log(linear_BTSF + self.config.log_floor).flatten(2)
        values_BTF: Tensor = start_BTF + self.decoder(latents_BTD)
        return values_BTF

    def from_log(self, values_BTF: Tensor) -> Tensor:
        """Output of `decode` -> magnitudes (B, T * spectra_per_frame, bins), not negative."""
        magnitudes_BTF = (values_BTF.exp() - self.config.log_floor).clamp(min=0.0)
        rows, frames, values = magnitudes_BTF.shape
        per_frame = self.config.spectra_per_frame
        return magnitudes_BTF.reshape(rows, frames * per_frame, values // per_frame)

    def wave(self, magnitudes_BSF: Tensor, latents_BSD: Tensor) -> Tensor:
        """Magnitudes and the latents of their frames -> wave (B, S * spectrum_hop), not bounded to [-1, 1].

        Gradients reach the magnitudes and the head, not the phases that Griffin-Lim found.
        """
        config, hop = self.config, self.config.spectrum_hop
        sharp_BSF = sharpen(magnitudes_BSF, config.contrast)
        with torch.no_grad():
            spectrum_BSF = griffin_lim_spectrum(
                sharp_BSF, hop, config.griffin_lim_iterations, config.griffin_lim_start, config.noise_from
            )
        if sharp_BSF.requires_grad:
            spectrum_BSF = spectrum_BSF * (sharp_BSF / sharp_BSF.detach().clamp(min=1e-8))
        if self.head is not None:
            spectrum_BSF = self.head(spectrum_BSF, latents_BSD)
        return synthesize(spectrum_BSF, hop)

    @torch.no_grad()
    def fit_linear(self, wave_BN: Tensor) -> Tensor:
        """Set the linear paths to the principal components of recordings; returns their latents (frames, D)."""
        mel_NM = self.log_mel(self.magnitudes(wave_BN)).flatten(0, 1)
        self.mean_M.copy_(mel_NM.mean(dim=0))
        self.scale_M.copy_(mel_NM.std(dim=0).clamp(min=1e-3))
        centred_NM = (mel_NM - self.mean_M).double()
        _, axes_MM = torch.linalg.eigh(centred_NM.T @ centred_NM)
        axes_MD = axes_MM.flip(1)[:, : self.config.latent_channels].float()
        self.project.weight.copy_(axes_MD.T)
        self.expand.weight.copy_(axes_MD)
        self.expand.bias.copy_(self.mean_M)
        latents_ND: Tensor = (mel_NM - self.mean_M) @ axes_MD
        return latents_ND
