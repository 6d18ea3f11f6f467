"""EnCodec (arXiv 2210.13438): 24 kHz over whole rows, 48 kHz in chunks with a level of their own for the loudness.

D channels, Q levels, C audio channels; T is samples of a wave, frames of codes and latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.codecs.interface import Context
from models.codecs.quantizer import ResidualQuantizer
from models.codecs.reach import decoder_reach, encoder_reach
from models.codecs.recurrent import RecurrentCodec, Side
from models.codecs.rows import RowCodec
from models.codecs.transformers.residual import euclidean_codebooks
from models.identity import TokenIdentity

_QUIETEST_DB, _GAIN_RANGE_DB = -120.0, 126.0


class EncodecNetwork(nn.Module):
    """The layers of a transformers `EncodecModel` around its LSTMs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        encoder, decoder = (list(side.layers) for side in (model.encoder, model.decoder))
        place = _recurrent(encoder)
        self.encoder = Side()
        self.encoder.front, self.encoder.back = (
            nn.Sequential(*part) for part in (encoder[:place], encoder[place:])
        )
        self.encoder.piece_context, hop = encoder_reach(self.encoder.front)
        place = _recurrent(decoder) + 1
        self.decoder = Side()
        self.decoder.front, self.decoder.back = (
            nn.Sequential(*part) for part in (decoder[:place], decoder[place:])
        )
        self.decoder.piece_context = decoder_reach(self.decoder.back, hop)
        self.quantizer = euclidean_codebooks(model.quantizer.layers)


class EncodecCodec(RecurrentCodec):
    """A mono model without chunks: facebook/encodec_24khz, facebook/encodec_32khz. Every number of levels is coded,
    those of the published bandwidths were trained (24 kHz: 2, 4, 8, 16, 32).
    """

    def __init__(self, model: Any, identity: TokenIdentity, latents: TokenIdentity) -> None:
        self.identity, self.latents = identity, latents
        super().__init__(EncodecNetwork(model))


class ChunkedEncodecCodec(RowCodec):
    """A model that scales chunks to one loudness and codes them apart, facebook/encodec_48khz: chunks of 1 s, each
    10 ms into the next, joined by fading. Mono waves are coded as both channels, whose mean is decoded.

    The first level is each chunk's loudness (root mean square, in steps of an eighth of a decibel), which the published
    model keeps beside the codes; it is the first channel of the latents, in decibels. Each chunk has frames of its own,
    so a row has more of them than hops (`TokenIdentity.frames`).
    """

    context = Context(None, None)

    def __init__(self, model: Any, identity: TokenIdentity, latents: TokenIdentity) -> None:
        self.identity, self.latents = identity, latents
        config = model.config
        self.network = nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder})
        self.network["quantizer"] = euclidean_codebooks(model.quantizer.layers)
        self.channels: int = config.audio_channels
        self.chunk_frames, self.stride = identity.chunk_frames, identity.chunk_stride
        self.chunk = self.chunk_frames * self.hop_length
        self.device = next(model.parameters()).device

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        chunks = -(-self.identity.frames(len(wave_T)) // self.chunk_frames)
        for chunk in range(chunks):
            part_T = wave_T[chunk * self.stride :][: self.chunk]
            scale = part_T.float().square().mean().sqrt() + 1e-8
            scaled_T = (part_T / scale).to(self.precision)
            # Norms over time need more than a sample.
            scaled_T = nn.functional.pad(scaled_T, (0, max(0, self.hop_length - len(scaled_T))))
            latents_DT = self.network["encoder"](scaled_T.expand(1, self.channels, -1))[0]
            gain_1T = (20 * scale.log10()).expand(1, latents_DT.shape[1])
            yield torch.cat([gain_1T, latents_DT.float()])

    def _decoded(self, values: Tensor, vectors: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        quiet_T = values.new_zeros(0, dtype=torch.float32)
        overlapped_T, weights_T = quiet_T, quiet_T
        fade_T = 0.5 - (torch.linspace(0, 1, self.chunk + 2, device=self.device)[1:-1] - 0.5).abs()
        for start in range(0, values.shape[1], self.chunk_frames):
            latents_DT = vectors(values[:, start : start + self.chunk_frames])
            gain = 10 ** (latents_DT[0].float().mean() / 20)
            sound_CT = self.network["decoder"](latents_DT[None, 1:].to(self.precision))[0].float() * gain
            sound_T, weight_T = sound_CT.mean(dim=0), fade_T[: sound_CT.shape[1]]
            overlapped_T = _added(overlapped_T, sound_T * weight_T)
            weights_T = _added(weights_T, weight_T)
            done = self.stride if start + self.chunk_frames < values.shape[1] else len(weights_T)
            yield overlapped_T[:done] / weights_T[:done]
            overlapped_T, weights_T = overlapped_T[done:], weights_T[done:]

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        step = _GAIN_RANGE_DB / (self.codebook_size - 1)
        gain_1T = ((latents_DT[:1] - _QUIETEST_DB) / step).round().clamp(0, self.codebook_size - 1).long()
        if self.n_codebooks == 1:
            return gain_1T
        levels = slice(self.n_codebooks - 1)
        return torch.cat([gain_1T, self._quantizer.encode(latents_DT[1:].T, levels).T])

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        latents_DT = torch.zeros(self.latents.channels, codes_QT.shape[1], device=self.device)
        rest_QT = codes_QT
        if first_level == 0:
            step = _GAIN_RANGE_DB / (self.codebook_size - 1)
            latents_DT[0] = codes_QT[0] * step + _QUIETEST_DB
            rest_QT = codes_QT[1:]
        if len(rest_QT):
            latents_DT[1:] = self._quantizer.decode(rest_QT.T, max(0, first_level - 1)).T
        return latents_DT

    @property
    def _quantizer(self) -> ResidualQuantizer:
        quantizer: ResidualQuantizer = self.network["quantizer"]
        return quantizer


def encodec(model: Any, identity: TokenIdentity, latents: TokenIdentity) -> RowCodec:
    """The codec of an `EncodecModel`. ValueError for one that scales without chunks."""
    config = model.config
    if config.chunk_length is not None:
        hop = identity.hop_length
        if config.chunk_length % hop or not 0 < config.chunk_stride <= config.chunk_length:
            raise ValueError(
                f"chunks of {config.chunk_length} samples every {config.chunk_stride}; "
                f"a chunk must be a multiple of the hop {hop}, and reach to the next one"
            )
        chunks = {"chunk_frames": config.chunk_length // hop, "chunk_stride": config.chunk_stride}
        identity = replace(identity, n_codebooks=identity.n_codebooks + 1, **chunks)
        return ChunkedEncodecCodec(model, identity, replace(latents, channels=latents.channels + 1, **chunks))
    if config.normalize or config.audio_channels != 1:
        raise ValueError(
            f"audio_channels {config.audio_channels} with normalize {config.normalize} and no chunks; "
            "a model without chunks must be mono and not scale"
        )
    return EncodecCodec(model, identity, latents)


def _recurrent(layers: list[nn.Module]) -> int:
    """The place of the LSTM."""
    return next(
        place
        for place, layer in enumerate(layers)
        if any(isinstance(inner, nn.LSTM) for inner in layer.modules())
    )


def _added(tail_T: Tensor, values_T: Tensor) -> Tensor:
    """The sum of two segments that begin together, as long as the longer one."""
    length = max(len(tail_T), len(values_T))
    padded = [nn.functional.pad(part_T, (0, length - len(part_T))) for part_T in (tail_T, values_T)]
    return padded[0] + padded[1]
