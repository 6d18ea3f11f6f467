"""Codes as vectors, and back: the codebooks of any codec, and waveforms of vectors.

Shape suffixes: B rows, T frames, Q levels, V codes of a codebook, D channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor

from models.codecs.interface import Codec, Codes, Identified, LatentCodec, Latents, Wave
from models.codecs.quantizer import ResidualQuantizer
from models.layers.masks import length_mask


def has_latents(codec: Codec) -> TypeGuard[LatentCodec]:
    """True if the codec decodes vectors as well as codes."""
    return hasattr(codec, "decode_latents")


def codebooks(codec: Codec) -> Tensor:
    """The vectors (Q, V, D) float32 of all codes, of which `codec.embed` returns sums. ValueError for PCM."""
    _refuse_samples(codec)
    codes_11V = torch.arange(codec.codebook_size)[None, None]
    return torch.stack([codec.embed(codes_11V, level)[0].T for level in range(codec.n_codebooks)])


def _refuse_samples(codec: Codec) -> None:
    if codec.identity.holds_samples:
        raise ValueError(f"{codec.name} codes samples; it has no codebooks of vectors")


def latents_of(codes_BTQ: Tensor, codebooks_QVD: Tensor) -> Tensor:
    """Codes of the first levels -> the sums of their vectors (B, T, D)."""
    latents_BTD = codebooks_QVD[0][codes_BTQ[..., 0]]
    for level in range(1, codes_BTQ.shape[-1]):
        latents_BTD = latents_BTD + codebooks_QVD[level][codes_BTQ[..., level]]
    return latents_BTD


def nearest_codes(latents_BTD: Tensor, codebooks_QVD: Tensor) -> Tensor:
    """Codes (B, T, Q) int64, each level's nearest to what the levels before it left over."""
    quantizer = ResidualQuantizer(*codebooks_QVD.shape)
    quantizer.codebooks_QVD = codebooks_QVD
    codes_NQ = quantizer.encode(latents_BTD.flatten(0, 1))
    return codes_NQ.view(*latents_BTD.shape[:2], len(codebooks_QVD))


def decode_latents(codec: Codec, latents: Latents) -> Wave:
    """Vectors -> waves: as they are where the codec can decode them, else by their nearest codes, level by level."""
    if has_latents(codec):
        return codec.decode_latents(latents)
    codes_BTQ = nearest_codes(latents.latents_BTD, codebooks(codec).to(latents.latents_BTD.device))
    return codec.decode(Codes(codes_BTQ.transpose(1, 2), latents.lengths_B))


class CodecVectors(Identified):
    """The sums of the vectors that a codec's codes stand for, as an embedder."""

    def __init__(self, codec: Codec) -> None:
        """ValueError for PCM."""
        _refuse_samples(codec)
        made = codec.identity
        channels = codec.embed(torch.zeros(1, codec.n_codebooks, 1, dtype=torch.int64)).shape[1]
        # The same codec with other levels active has other vectors.
        edition = f"{made.edition}+{made.n_codebooks}-levels"
        self.identity = replace(made, edition=edition, n_codebooks=0, codebook_size=0, channels=channels)
        self.codec, self.max_samples = codec, codec.max_samples

    @torch.no_grad()
    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> vectors (B, T, D) float32."""
        codes = self.codec.encode(wave_BT, lengths_B)
        vectors_BTD = self.codec.embed(codes.codes_BQT).transpose(1, 2).float()
        mask_BT1 = length_mask(codes.lengths_B.to(vectors_BTD.device), vectors_BTD.shape[1])[..., None]
        return Latents(torch.where(mask_BT1, vectors_BTD, 0.0), codes.lengths_B)
