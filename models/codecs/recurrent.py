"""Codecs with a recurrent layer at frame rate: its layers at sample rate run in pieces, the rest over whole rows.

D channels, Q levels; T is samples of a wave, frames of codes and latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from models.codecs.chunking import in_pieces
from models.codecs.interface import Context
from models.codecs.quantizer import ResidualQuantizer
from models.codecs.rows import RowCodec

LONGEST_S = 20 * 60


class Side(nn.Module):
    """An encoder or a decoder, cut where its part at sample rate ends or begins."""

    front: nn.Module
    back: nn.Module
    piece_context: int
    """Frames to each side that the part at sample rate depends on."""


class Network(Protocol):
    """`encoder.front` runs at sample rate, its `back` at frame rate; for the decoder it is the other way round."""

    @property
    def encoder(self) -> Side:
        """Waves (B, 1, T) -> latents (B, D, frames)."""

    @property
    def decoder(self) -> Side:
        """Latents (B, D, frames) -> waves (B, 1, T)."""

    @property
    def quantizer(self) -> ResidualQuantizer:
        """Of the latents."""


class RecurrentCodec(RowCodec):
    """Subclasses say `identity` and `latents`. Each frame depends on the whole row."""

    context = Context(None, None)
    network: Network

    def __init__(self, network: Network) -> None:
        self.network = network
        self.max_samples = LONGEST_S * self.sample_rate
        self.device = network.quantizer.codebooks_QVD.device
        self.piece_frames = self._usual_piece()

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        encoder = self.network.encoder
        pieces = in_pieces(
            lambda piece_T: encoder.front(piece_T[None, None])[0],
            wave_T,
            piece=self.piece_frames,
            context=encoder.piece_context,
            values_per_frame=self.hop_length,
        )
        if len(wave_T):
            yield encoder.back(torch.cat(list(pieces), dim=1)[None])[0]

    def _decoded(self, values: Tensor, vectors: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        if not values.shape[1]:
            return iter(())
        decoder = self.network.decoder
        return in_pieces(
            lambda piece_DT: decoder.back(piece_DT[None])[0, 0],
            decoder.front(vectors(values)[None])[0],
            piece=self.piece_frames,
            context=decoder.piece_context,
            outputs_per_frame=self.hop_length,
        )

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        return self.network.quantizer.encode(latents_DT.T.float(), slice(self.n_codebooks)).T

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        return self.network.quantizer.decode(codes_QT.T, first_level).T
