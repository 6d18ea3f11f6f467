"""X-Codec (arXiv 2408.17175) and Higgs Audio's tokenizer: DAC's encoder and HuBERT's features in one residual code.

D channels, Q levels; T is samples of a wave, frames of codes and latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.codecs.factorized import FactorizedResidualQuantizer
from models.codecs.interface import Context
from models.codecs.reach import decoder_reach
from models.codecs.rows import RowCodec
from models.codecs.transformers.residual import euclidean_codebooks, projected_codebooks
from models.identity import TokenIdentity

_LONGEST_S = 120


class XCodec(RowCodec):
    """A row is followed by zeros to a whole frame, as its feature extractor does. HuBERT reads the whole row."""

    def __init__(self, model: Any, identity: TokenIdentity, latents: TokenIdentity) -> None:
        self.identity, self.latents = identity, latents
        layers = list(model.quantizer.quantizers)
        self._projected = hasattr(layers[0], "project_in")
        make: Any = projected_codebooks if self._projected else euclidean_codebooks
        self.network = model
        self.network.quantizer = make(layers)
        self.context = Context(None, decoder_reach(model.acoustic_decoder, identity.hop_length))
        self.max_samples = _LONGEST_S * identity.sample_rate
        self.device = next(model.parameters()).device
        self.piece_frames = self._usual_piece()

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        if not len(wave_T):
            return
        model = self.network
        wave_11T = functional.pad(wave_T, (0, -len(wave_T) % self.hop_length))[None, None]
        features_BTD = model._extract_semantic_features(wave_11T)
        semantic_BDT = model.encoder_semantic(features_BTD.transpose(1, 2))
        acoustic_BDT = model.acoustic_encoder(wave_11T)
        joined_BDT = torch.cat([acoustic_BDT, semantic_BDT], dim=1)
        yield model.fc(joined_BDT.transpose(1, 2))[0].T

    def _decode_piece(self, latents_DT: Tensor) -> Tensor:
        acoustic_BDT = self.network.fc2(latents_DT.T[None].to(self.precision)).transpose(1, 2)
        wave_T: Tensor = self.network.acoustic_decoder(acoustic_BDT)[0, 0]
        return wave_T

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        quantizer = self.network.quantizer
        if isinstance(quantizer, FactorizedResidualQuantizer):
            return quantizer.encode(latents_DT.T[None], self.n_codebooks, "euclidean")[0]
        codes_TQ: Tensor = quantizer.encode(latents_DT.T.float(), slice(self.n_codebooks))
        return codes_TQ.T

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        quantizer = self.network.quantizer
        if isinstance(quantizer, FactorizedResidualQuantizer):
            return quantizer.decode(codes_QT[None], first_level)[0].T
        vectors_TD: Tensor = quantizer.decode(codes_QT.T, first_level)
        return vectors_TD.T
