"""What every codec offers: a waveform becomes integer codes, and codes become a waveform.

Shape suffixes: B batch, Q codebooks (levels, coarse to fine), D channels; T is samples of a wave, frames of codes.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.identity import TokenIdentity


@dataclass(frozen=True)
class Codes:
    """A batch of code sequences (B, Q, T); frames at or after a row's length are padding."""

    codes_BQT: Tensor
    """int64 in [0, codebook_size); `pcm-*` alone have signed codes, the samples themselves."""
    lengths_B: Tensor
    """int64, frames."""


@dataclass(frozen=True)
class Wave:
    """A batch of mono waveforms (B, T); samples at or after a row's length are zero."""

    wave_BT: Tensor
    """float32 in [-1, 1]."""
    lengths_B: Tensor
    """int64, samples."""
    sample_rate: int
    """Hz."""


class Codec(Protocol):
    """Waveform <-> codes. No result for a row depends on the other rows or on its padding."""

    name: str
    edition: str
    weights_sha256: str
    sample_rate: int
    hop_length: int
    """Samples per frame; the frame rate is sample_rate / hop_length."""
    n_codebooks: int
    codebook_size: int

    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 at `sample_rate` -> ceil(samples / hop_length) frames a row."""
        ...

    def decode(self, codes: Codes) -> Wave:
        """Codes of the first k <= n_codebooks levels -> frames * hop_length samples a row."""
        ...

    def embed(self, codes_BQT: Tensor) -> Tensor:
        """Codes of the first k levels -> the quantizer's continuous output (B, D, T) float32."""
        ...


def identity_of(codec: Codec) -> TokenIdentity:
    """The codec's identity, as datasets record it."""
    return TokenIdentity(
        codec.name,
        codec.edition,
        codec.weights_sha256,
        codec.sample_rate,
        codec.hop_length,
        codec.n_codebooks,
        codec.codebook_size,
    )


def frame_lengths(lengths_B: Tensor, hop_length: int) -> Tensor:
    """Samples -> frames, a partial hop counting as a whole one."""
    return torch.div(lengths_B + hop_length - 1, hop_length, rounding_mode="floor").to(torch.int64)


def check_wave(wave_BT: Tensor, lengths_B: Tensor) -> None:
    """Raise ValueError unless `wave_BT` (B, T) is floating point and finite and `lengths_B` (B,) fits it."""
    if wave_BT.dim() != 2 or not wave_BT.is_floating_point():
        raise ValueError(
            f"wave is {wave_BT.dtype} {tuple(wave_BT.shape)}; expected floating point (batch, samples)"
        )
    _check_lengths(lengths_B, wave_BT.shape[0], wave_BT.shape[1], "samples")
    if not torch.isfinite(wave_BT).all():
        raise ValueError("wave holds NaN or infinite samples; every sample must be finite")


def check_codes(codes_BQT: Tensor, n_codebooks: int, lowest: int, highest: int) -> None:
    """Raise ValueError unless `codes_BQT` holds 1..n_codebooks levels of integers in [lowest, highest]."""
    if codes_BQT.dim() != 3 or codes_BQT.is_floating_point():
        shape = tuple(codes_BQT.shape)
        raise ValueError(f"codes are {codes_BQT.dtype} {shape}; expected integers (batch, codebooks, frames)")
    if not 1 <= codes_BQT.shape[1] <= n_codebooks:
        raise ValueError(f"codes have {codes_BQT.shape[1]} codebooks; this codec takes 1 to {n_codebooks}")
    if codes_BQT.numel() and not (int(codes_BQT.min()) >= lowest and int(codes_BQT.max()) <= highest):
        seen = f"{int(codes_BQT.min())} to {int(codes_BQT.max())}"
        raise ValueError(f"codes range from {seen}; this codec's codes are {lowest} to {highest}")


def check_code_lengths(codes: Codes) -> None:
    """Raise ValueError unless the row lengths fit the codes."""
    _check_lengths(codes.lengths_B, codes.codes_BQT.shape[0], codes.codes_BQT.shape[2], "frames")


def _check_lengths(lengths_B: Tensor, rows: int, longest: int, unit: str) -> None:
    if lengths_B.shape != (rows,):
        raise ValueError(f"lengths have shape {tuple(lengths_B.shape)}; expected one per row, ({rows},)")
    if rows and not 0 <= int(lengths_B.min()) <= int(lengths_B.max()) <= longest:
        raise ValueError(f"lengths are {lengths_B.tolist()}; expected 0 to {longest} {unit}")


def mask_rows(values_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Zero every position at or after its row's length."""
    positions_T = torch.arange(values_BT.shape[-1], device=values_BT.device)
    return values_BT * (positions_T < lengths_B.to(values_BT.device)[:, None])
