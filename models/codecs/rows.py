"""Codecs that code each row by itself, so that no code depends on the batch or its padding.

Shape suffixes: B batch, Q levels, D channels; T is samples of a wave, frames of codes and latents.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from models.codecs.chunking import in_pieces
from models.codecs.interface import (
    Codes,
    Context,
    Identified,
    Latents,
    Wave,
    check_code_lengths,
    check_codes,
    check_latents,
    check_level_range,
    check_longest,
    check_wave,
)
from models.identity import TokenIdentity
from models.layers.masks import pad_rows

_PIECE_S = {"cpu": 2.0}
"""Shorter pieces spend more on context, longer ones outgrow a CPU's cache."""
_LONGEST_PIECE_S = 10.0


class RowCodec(Identified, ABC):
    """Encoder, quantizer and decoder of one row; subclasses say what those are.

    Pieces of long rows have a place and length that depend on the row alone. In one precision and on one machine, codes
    are the same every time; another processor or another number of threads may round a near tie the other way.
    """

    context: Context
    latents: TokenIdentity
    max_samples: int | None = None
    device: torch.device
    network: Any
    precision: torch.dtype = torch.float32
    piece_frames: int
    decode_factor: int = 1
    """Decoding takes pieces that many times as long, where its context is long and its layers small."""

    def _identify(
        self, named: tuple[str, str, str], rates: tuple[int, int], codebooks: tuple[int, int], channels: int
    ) -> None:
        """Set both identities from name, edition and digest; sample rate and hop; levels and codes of each; latents."""
        self.identity = TokenIdentity(*named, *rates, *codebooks)
        self.latents = TokenIdentity(*named, *rates, 0, 0, channels)

    def at_precision(self, precision: torch.dtype) -> Self:
        """The same codec with a copy of its networks in another precision. It rounds to other codes, so it is another
        edition.
        """
        other = copy.copy(self)
        other.network, other.precision = copy.deepcopy(self.network).to(precision), precision
        edition = f"{self.edition}+{str(precision).removeprefix('torch.')}"
        other.identity = replace(self.identity, edition=edition)
        other.latents = replace(self.latents, edition=edition)
        return other

    @torch.no_grad()
    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 -> codes (B, n_codebooks, T); ValueError for NaN or lengths that do not fit."""
        empty_QT = torch.zeros(self.n_codebooks, 0, dtype=torch.int64, device=self.device)
        rows = [
            torch.cat(
                [empty_QT, *(self._quantize(latents_DT) for latents_DT in self._encoded(wave_T))], dim=1
            )
            for wave_T in self._rows(wave_BT, lengths_B)
        ]
        return Codes(*_stacked(rows, empty_QT))

    @torch.no_grad()
    def encode_latents(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> the encoder's output (B, T, D) float32, not quantized."""
        empty_DT = torch.zeros(self.latents.channels, 0, device=self.device)
        rows = [
            torch.cat([empty_DT, *(latents_DT.float() for latents_DT in self._encoded(wave_T))], dim=1)
            for wave_T in self._rows(wave_BT, lengths_B)
        ]
        latents_BDT, frames_B = _stacked(rows, empty_DT)
        return Latents(latents_BDT.transpose(1, 2), frames_B)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Wave:
        """Codes (B, k, T) of the first k levels -> waves float32 in [-1, 1], each row from its own frames."""
        check_code_lengths(codes)
        check_codes(codes.codes_BQT, self.n_codebooks, 0, self.codebook_size - 1)
        codes_BQT = codes.codes_BQT.to(self.device)
        return self._decode_rows(codes_BQT, codes.lengths_B, lambda codes_QT: self._lookup(codes_QT, 0))

    @torch.no_grad()
    def decode_latents(self, latents: Latents) -> Wave:
        """Latents (B, T, D), quantized or not -> waves float32 in [-1, 1], each row from its own frames."""
        check_latents(latents, self.latents.channels)
        latents_BDT = latents.latents_BTD.to(self.device, self.precision).transpose(1, 2)
        return self._decode_rows(latents_BDT, latents.lengths_B, lambda latents_DT: latents_DT)

    @torch.no_grad()
    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes of k levels from `first_level` on -> the sum of their vectors, (B, D, T) float32."""
        check_codes(codes_BQT, self.n_codebooks, 0, self.codebook_size - 1)
        check_level_range(codes_BQT.shape[1], first_level, self.n_codebooks)
        codes_BQT = codes_BQT.to(self.device)
        if not len(codes_BQT):
            return torch.zeros(0, self.latents.channels, codes_BQT.shape[2], device=self.device)
        return torch.stack([self._lookup(codes_QT, first_level).float() for codes_QT in codes_BQT])

    def _rows(self, wave_BT: Tensor, lengths_B: Tensor) -> Iterator[Tensor]:
        check_wave(wave_BT, lengths_B)
        lengths = lengths_B.tolist()
        check_longest(self.name, lengths, self.max_samples, "samples")
        for wave_T, length in zip(wave_BT, lengths, strict=True):
            yield wave_T[:length].to(self.device, self.precision)

    def _decode_rows(self, values: Tensor, lengths_B: Tensor, vectors: Callable[[Tensor], Tensor]) -> Wave:
        lengths = lengths_B.tolist()
        if self.max_samples is not None and self.context.decode is None:
            check_longest(self.name, lengths, self.max_samples // self.hop_length + 1, "frames")
        empty_T = torch.zeros(0, device=self.device)
        rows = [
            torch.cat([empty_T, *(wave_T.float() for wave_T in self._decoded(value[:, :length], vectors))])
            for value, length in zip(values, lengths, strict=True)
        ]
        wave_BT, samples_B = _stacked(rows, empty_T)
        return Wave(wave_BT.clamp(-1.0, 1.0), samples_B, self.sample_rate)

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        """Latents (D, t) of consecutive segments of frames. Whole rows: override."""
        assert self.context.encode is not None
        return in_pieces(
            self._encode_piece,
            wave_T,
            piece=self.piece_frames,
            context=self.context.encode,
            values_per_frame=self.hop_length,
        )

    def _decoded(self, values: Tensor, vectors: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Waves (t,) of consecutive segments of frames; `vectors` makes latents (D, t) of a piece of `values`."""
        assert self.context.decode is not None
        return in_pieces(
            lambda piece: self._decode_piece(vectors(piece)),
            values,
            piece=self.piece_frames * self.decode_factor,
            context=self.context.decode,
            outputs_per_frame=self.hop_length,
        )

    def _usual_piece(self) -> int:
        """Frames of a piece on this device."""
        piece_s = _PIECE_S.get(self.device.type, _LONGEST_PIECE_S)
        return max(1, round(piece_s * self.sample_rate / self.hop_length))

    def _encode_piece(self, wave_T: Tensor) -> Tensor:
        """Wave -> latents (D, T)."""
        raise NotImplementedError

    def _decode_piece(self, latents_DT: Tensor) -> Tensor:
        """Latents -> wave (T,)."""
        raise NotImplementedError

    @abstractmethod
    def _quantize(self, latents_DT: Tensor) -> Tensor:
        """Latents -> codes (n_codebooks, T) int64."""

    @abstractmethod
    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        """Codes of k levels -> the sum of their vectors (D, T)."""


def _stacked(rows: list[Tensor], empty: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (..., T) -> (B, ..., T) and lengths (B,); `empty` is a row without frames."""
    lengths_B = torch.tensor([row.shape[-1] for row in rows], dtype=torch.int64, device=empty.device)
    if not rows:
        return empty[None][:0], lengths_B
    padded, _ = pad_rows([row.movedim(-1, 0) for row in rows])
    return padded.movedim(1, -1).contiguous(), lengths_B
