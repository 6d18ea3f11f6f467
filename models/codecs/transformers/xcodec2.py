"""X-Codec 2 (arXiv 2502.04128): one code of 16 bits a frame, by finite scalar quantization.

D channels; T is samples of a wave, frames of codes and latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from models.codecs.interface import Context
from models.codecs.rows import RowCodec
from models.identity import TokenIdentity

_LONGEST_S = 60


class XCodec2(RowCodec):
    """A row has samples // hop + 1 frames: its feature extractor adds a sample, then zeros to a whole frame. Both sides
    read the whole row.

    Latents are the channels that are rounded, bounded and divided so that codes have values in [-1, 1].
    """

    context = Context(None, None)

    def __init__(self, model: Any, identity: TokenIdentity, latents: TokenIdentity) -> None:
        from transformers import Xcodec2FeatureExtractor

        self.identity, self.latents = identity, latents
        self.network = model
        self._features = Xcodec2FeatureExtractor(hop_length=identity.hop_length)
        self.max_samples = _LONGEST_S * identity.sample_rate
        self.device = next(model.parameters()).device
        self.piece_frames = self._usual_piece()

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        if not len(wave_T):
            return
        model, fsq = self.network, self.network.quantizer.quantizer
        given = self._features(wave_T.float().cpu(), sampling_rate=self.sample_rate, return_tensors="pt")
        features, mask = given["input_features"].to(self.device, self.precision), given["input_features_mask"]
        semantic_BTD = model.semantic_encoder(features, attention_mask=mask.to(self.device)).last_hidden_state
        semantic_BDT = model.semantic_adapter(semantic_BTD.transpose(1, 2))
        acoustic_BDT = model.acoustic_encoder(given["input_values"].to(self.device, self.precision))
        joined_BTD = model.fc_encoder(torch.cat([semantic_BDT, acoustic_BDT], dim=1).transpose(1, 2))
        # The published model bounds its channels twice.
        bounded_BTD = fsq.bound(fsq.bound(model.quantizer.project_in(joined_BTD).float()))
        yield (bounded_BTD / (fsq.levels // 2))[0].T

    def _decoded(self, values: Tensor, vectors: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        if values.shape[1]:
            expanded_BTD = self.network.quantizer.project_out(vectors(values).T[None].to(self.precision))
            yield self.network.acoustic_decoder(expanded_BTD)[0, 0]

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        fsq = self.network.quantizer.quantizer
        half_D = fsq.levels // 2
        places_TD = (latents_DT.T * half_D).round().long() + half_D
        codes_T: Tensor = (places_TD * fsq.basis).sum(dim=1)
        return codes_T[None]

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:  # noqa: ARG002
        values_TD: Tensor = self.network.quantizer.quantizer.codebook[codes_QT[0]]
        return values_TD.T.float()
