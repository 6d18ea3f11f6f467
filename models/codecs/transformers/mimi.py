"""Mimi (arXiv 2410.00037): convolutions and transformers that look back a bounded time, so rows run in pieces.

D channels, Q levels; T is samples of a wave, frames of codes and latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.codecs.chunking import in_pieces
from models.codecs.interface import Context
from models.codecs.quantizer import ResidualQuantizer
from models.codecs.reach import decoder_reach, encoder_reach
from models.codecs.rows import RowCodec
from models.codecs.transformers.residual import euclidean_codebooks
from models.identity import TokenIdentity


class SplitQuantizer(nn.Module):
    """Residual quantizers that each code the same latents below a projection: one semantic level, acoustic ones."""

    def __init__(self, quantizer: Any) -> None:
        super().__init__()
        parts = (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer)
        self.n_semantic: int = quantizer.num_semantic_quantizers
        self.inward = nn.ModuleList(_projection(part.input_proj) for part in parts)
        self.codebooks = nn.ModuleList(euclidean_codebooks(part.layers) for part in parts)
        self.outward = nn.ModuleList(_projection(part.output_proj) for part in parts)

    def encode(self, latents_DT: Tensor, n_levels: int) -> Tensor:
        """Latents -> codes (n_levels, T)."""
        codes = []
        counts = (min(n_levels, self.n_semantic), n_levels - self.n_semantic)
        for inward, codebooks, count in zip(self.inward, self.codebooks, counts, strict=True):
            if count > 0:
                assert isinstance(codebooks, ResidualQuantizer)
                codes.append(codebooks.encode(inward(latents_DT[None])[0].T.float(), slice(count)).T)
        return torch.cat(codes)

    def decode(self, codes_QT: Tensor, first_level: int) -> Tensor:
        """Codes of k levels from `first_level` on -> the sum of their vectors (D, T)."""
        cut = max(0, self.n_semantic - first_level)
        firsts = (first_level, max(0, first_level - self.n_semantic))
        found = []
        for place, part_QT in enumerate((codes_QT[:cut], codes_QT[cut:])):
            if len(part_QT):
                codebooks, outward = self.codebooks[place], self.outward[place]
                assert isinstance(codebooks, ResidualQuantizer)
                vectors_DT = codebooks.decode(part_QT.T, firsts[place]).T
                found.append(outward(vectors_DT[None])[0])
        return torch.stack(found).sum(dim=0)


class MimiCodec(RowCodec):
    """kyutai/mimi. Looking back a bounded time is what its sliding windows add up to: 80 s for each of the published
    transformers, so pieces are long; within them the layers at sample rate run in short ones.
    """

    def __init__(self, model: Any, identity: TokenIdentity, latents: TokenIdentity) -> None:
        self.identity, self.latents = identity, latents
        config = model.config
        # Mimi's transformers run at a higher rate than its codes.
        self.inner_hop: int = identity.hop_length // config.latent_stride
        self.reaches = (
            encoder_reach(model.encoder.encoder_seanet)[0],
            decoder_reach(model.decoder.decoder_seanet, self.inner_hop),
        )
        looks_back = config.num_hidden_layers * config.sliding_window
        # Two frames more for the convolutions between the two rates.
        contexts = [2 - (-(looks_back + reach) // config.latent_stride) for reach in self.reaches]
        self.context = Context(*contexts)
        self.network = nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder})
        self.network["quantizer"] = SplitQuantizer(model.quantizer)
        self.device = next(model.parameters()).device
        self.short_frames = self._usual_piece() * config.latent_stride
        self.piece_frames = max(self._usual_piece(), *contexts)

    def _encode_piece(self, wave_T: Tensor) -> Tensor:
        encoder = self.network["encoder"]
        pieces = in_pieces(
            lambda piece_T: encoder.encoder_seanet(piece_T[None, None])[0],
            wave_T,
            piece=self.short_frames,
            context=self.reaches[0],
            values_per_frame=self.inner_hop,
        )
        hidden_BTD = torch.cat(list(pieces), dim=1).T[None]
        read_BTD = encoder.encoder_transformer(hidden_BTD).last_hidden_state
        latents_DT: Tensor = encoder.downsample(read_BTD.transpose(1, 2))[0]
        return latents_DT

    def _decode_piece(self, latents_DT: Tensor) -> Tensor:
        decoder = self.network["decoder"]
        hidden_BDT = decoder.upsample(latents_DT[None].to(self.precision))
        read_BTD = decoder.decoder_transformer(hidden_BDT.transpose(1, 2)).last_hidden_state
        pieces = in_pieces(
            lambda piece_DT: decoder.decoder_seanet(piece_DT[None])[0, 0],
            read_BTD[0].T,
            piece=self.short_frames,
            context=self.reaches[1],
            outputs_per_frame=self.inner_hop,
        )
        return torch.cat(list(pieces))

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        codes_QT: Tensor = self.network["quantizer"].encode(latents_DT, self.n_codebooks)
        return codes_QT

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        vectors_DT: Tensor = self.network["quantizer"].decode(codes_QT, first_level)
        return vectors_DT


def _projection(given: nn.Module | None) -> nn.Module:
    return nn.Identity() if given is None else given
