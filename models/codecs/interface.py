"""Interfaces of codecs and tokenizers: waveforms <-> integer codes <-> continuous latents.

Shape suffixes: B batch, Q codebooks (levels, coarse to fine), D channels; T is samples of a wave, frames of codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


@dataclass(frozen=True)
class Latents:
    """A batch of sequences of vectors (B, T, D); frames at or after a row's length are zero."""

    latents_BTD: Tensor
    """float32."""
    lengths_B: Tensor
    """int64, frames."""


class Context(NamedTuple):
    """Frames on either side that a frame depends on; None where it depends on the whole row."""

    encode: int | None
    decode: int | None


class Identified(Protocol):
    """The fields of a codec's or tokenizer's identity as attributes."""

    identity: TokenIdentity

    @property
    def name(self) -> str:
        """The architecture and its published weights, e.g. `mill-16khz`."""
        return self.identity.name

    @property
    def edition(self) -> str:
        """Tells weights of one name apart."""
        return self.identity.edition

    @property
    def weights_sha256(self) -> str:
        """Of the weights' bytes."""
        return self.identity.weights_sha256

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.identity.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame; the frame rate is sample_rate / hop_length."""
        return self.identity.hop_length

    @property
    def n_codebooks(self) -> int:
        """Active levels."""
        return self.identity.n_codebooks

    @property
    def codebook_size(self) -> int:
        """Codes of a level."""
        return self.identity.codebook_size


class Tokenizer(Identified, Protocol):
    """Waveform -> codes. No result for a row depends on the other rows or on its padding."""

    context: Context
    """A caller may cut a row at any frame if it gives so many frames more on either side."""
    max_samples: int | None
    """The longest row that is taken; None for any length, in bounded memory."""

    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 at `sample_rate` -> ceil(samples / hop_length) frames per row, or a documented count."""
        ...


class Codec(Tokenizer, Protocol):
    """Waveform <-> codes."""

    def decode(self, codes: Codes) -> Wave:
        """Codes of the first k <= n_codebooks levels -> frames * hop_length samples per row, or a documented count."""
        ...

    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes of k levels from `first_level` on -> the sum of their vectors (B, D, T) float32."""
        ...


class LatentCodec(Codec, Protocol):
    """A codec that also encodes to continuous latents, before quantization, and decodes them."""

    latents: TokenIdentity

    def encode_latents(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves as for `encode` -> latents."""
        ...

    def decode_latents(self, latents: Latents) -> Wave:
        """Latents, quantized or not -> waves as of `decode`."""
        ...


class Embedder(Identified, Protocol):
    """Waveform -> features (w2v-BERT, HuBERT), or one vector per utterance (hop_length 0)."""

    max_samples: int | None

    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 at `sample_rate` -> vectors; equal for a row in any batch up to rounding."""
        ...


def identity_of(codec: Tokenizer) -> TokenIdentity:
    """The codec's identity, as datasets record it."""
    return codec.identity


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


def check_longest(name: str, lengths: Sequence[int], longest: int | None, unit: str) -> None:
    """Raise ValueError if a row is longer than `longest`, before memory is taken for it."""
    if longest is not None and lengths and max(lengths) > longest:
        raise ValueError(f"a row has {max(lengths)} {unit}; {name} takes at most {longest}")


def check_level_range(levels: int, first_level: int, n_codebooks: int) -> None:
    """Raise ValueError unless `levels` levels from `first_level` on exist."""
    if not 0 <= first_level < n_codebooks:
        raise ValueError(f"first_level is {first_level}; this codec has levels 0 to {n_codebooks - 1}")
    if first_level + levels > n_codebooks:
        raise ValueError(
            f"{levels} levels from level {first_level} on; this codec has levels 0 to {n_codebooks - 1}"
        )


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


def check_latents(latents: Latents, channels: int) -> None:
    """Raise ValueError unless the latents are floating point (batch, frames, channels) and the lengths fit them."""
    latents_BTD = latents.latents_BTD
    if latents_BTD.dim() != 3 or not latents_BTD.is_floating_point() or latents_BTD.shape[2] != channels:
        raise ValueError(
            f"latents are {latents_BTD.dtype} {tuple(latents_BTD.shape)}; "
            f"expected floating point (batch, frames, {channels})"
        )
    _check_lengths(latents.lengths_B, latents_BTD.shape[0], latents_BTD.shape[1], "frames")


def _check_lengths(lengths_B: Tensor, rows: int, longest: int, unit: str) -> None:
    if lengths_B.shape != (rows,):
        raise ValueError(f"lengths have shape {tuple(lengths_B.shape)}; expected one per row, ({rows},)")
    if rows and not 0 <= int(lengths_B.min()) <= int(lengths_B.max()) <= longest:
        raise ValueError(f"lengths are {lengths_B.tolist()}; expected 0 to {longest} {unit}")
