"""Waves -> semantic codes, and the latents before quantization: B rows, T frames, D channels, c of the latents."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from models.codecs.factorized import Metric
from models.codecs.interface import (
    Codes,
    Context,
    Embedder,
    Identified,
    Latents,
    check_code_lengths,
    check_codes,
)
from models.identity import TokenIdentity
from models.layers.masks import length_mask, pad_rows
from models.semantic.repcodec import RepCodec


class SemanticTokenizer(Identified):
    """Features and RepCodec: MaskGCT's semantic tokenizer, and the 8-D autoencoder's encoder.

    `encode` codes each row by itself, so that codes never depend on the batch; `encode_latents` is batched and equal up
    to rounding. Codes looked up by distance (`metric="euclidean"`, raoabinav/versaface_autoencoder) are other tokens.
    """

    context = Context(None, None)

    def __init__(
        self,
        features: Embedder,
        repcodec: RepCodec,
        weights_sha256: str,
        name: str = "repcodec",
        metric: Metric = "cosine",
    ) -> None:
        """ValueError unless `repcodec` reads as many channels as `features` has."""
        config, made = repcodec.config, features.identity
        if config.feature_size != made.channels:
            raise ValueError(
                f"{name} reads features of {config.feature_size} channels; {made.source} has {made.channels}"
            )
        self.features, self.repcodec, self.metric = features, repcodec.eval().requires_grad_(False), metric
        self.max_samples = features.max_samples
        self.device = repcodec.codebook.vectors_Vc.device
        # The features are part of what makes the tokens.
        digest = hashlib.sha256(f"{made.to_json()} {weights_sha256}".encode()).hexdigest()
        edition, rates = f"{made.name}-{made.edition}", (made.sample_rate, made.hop_length)
        self.latents = TokenIdentity(name, edition, digest, *rates, 0, 0, config.latent_size)
        edition = edition if metric == "cosine" else f"{edition}+{metric}"
        self.identity = TokenIdentity(name, edition, digest, *rates, 1, config.codebook_size)

    @torch.no_grad()
    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """Waves (B, T) float32 -> codes (B, 1, T)."""
        rows = [
            self.quantize(self.encode_latents(wave_T[None, :length], torch.tensor([length]))).codes_BQT[0].T
            for wave_T, length in zip(wave_BT, lengths_B.tolist(), strict=True)
        ]
        if not rows:
            return Codes(torch.zeros(0, 1, 0, dtype=torch.int64, device=self.device), lengths_B)
        codes_BTQ, mask_BT = pad_rows(rows)
        return Codes(codes_BTQ.transpose(1, 2), mask_BT.sum(dim=1))

    @torch.no_grad()
    def encode_latents(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """Waves (B, T) float32 -> latents (B, T, c) float32."""
        return self.latents_of(self.features.embed(wave_BT, lengths_B))

    @torch.no_grad()
    def latents_of(self, features: Latents) -> Latents:
        """Features (B, T, D), as `features.embed` makes them -> latents (B, T, c) float32."""
        if not features.latents_BTD.shape[1]:
            rows = len(features.lengths_B)
            return Latents(features.latents_BTD.new_zeros(rows, 0, self.latents.channels), features.lengths_B)
        mask_BT = length_mask(features.lengths_B, features.latents_BTD.shape[1])
        latents_BTc = self.repcodec.latents(features.latents_BTD, mask_BT)
        return Latents(latents_BTc * mask_BT[..., None], features.lengths_B)

    @torch.no_grad()
    def quantize(self, latents: Latents) -> Codes:
        """Latents -> codes (B, 1, T); padding gets code 0."""
        codes_BT = self.repcodec.codebook.nearest(latents.latents_BTD.to(self.device), self.metric)
        mask_BT = length_mask(latents.lengths_B.to(self.device), codes_BT.shape[1])
        return Codes((codes_BT * mask_BT)[:, None], latents.lengths_B)

    @torch.no_grad()
    def reconstruct(self, codes: Codes) -> Latents:
        """Codes (B, 1, T) -> the features (B, T, D) that they stand for."""
        check_code_lengths(codes)
        check_codes(codes.codes_BQT, 1, 0, self.codebook_size - 1)
        codes_BT = codes.codes_BQT[:, 0].to(self.device)
        mask_BT = length_mask(codes.lengths_B.to(self.device), codes_BT.shape[1])
        features_BTD = self.repcodec.decode(self.repcodec.embed(codes_BT), mask_BT)
        return Latents(features_BTD * mask_BT[..., None], codes.lengths_B)


class LatentVectors(Identified):
    """The tokenizer's latents as an embedder."""

    def __init__(self, tokenizer: SemanticTokenizer) -> None:
        self.identity, self.max_samples, self.tokenizer = tokenizer.latents, tokenizer.max_samples, tokenizer

    def embed(self, wave_BT: Tensor, lengths_B: Tensor) -> Latents:
        """As `SemanticTokenizer.encode_latents`."""
        return self.tokenizer.encode_latents(wave_BT, lengths_B)
