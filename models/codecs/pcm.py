"""`pcm-*`: the samples themselves as codes, so that codec training data travels in the same shards."""

import hashlib

import torch
from torch import Tensor

from models.codecs.interface import (
    Codes,
    Context,
    Identified,
    Wave,
    check_code_lengths,
    check_codes,
    check_level_range,
    check_wave,
)
from models.identity import TokenIdentity
from models.layers.masks import mask_rows

PCM_RATES = {"pcm-16khz": 16_000, "pcm-24khz": 24_000, "pcm-44khz": 44_100}
"""Name -> sample rate, Hz: the rates that codecs are trained at."""
_FULL_SCALE = 32768


class PcmCodec(Identified):
    """Lossless for 16-bit audio: one codebook, one frame a sample, codes in [-32768, 32767]."""

    edition = "1"
    codebook_size = 2 * _FULL_SCALE
    context = Context(0, 0)
    max_samples: int | None = None

    def __init__(self, name: str = "pcm-16khz") -> None:
        described = f"{name}@{self.edition}: round(32768 * sample), no weights"
        digest = hashlib.sha256(described.encode()).hexdigest()
        self.identity = TokenIdentity(
            name,
            self.edition,
            digest,
            PCM_RATES[name],
            hop_length=1,
            n_codebooks=1,
            codebook_size=self.codebook_size,
        )

    def encode(self, wave_BT: Tensor, lengths_B: Tensor) -> Codes:
        """(B, T) float32 -> codes (B, 1, T); samples outside [-1, 1) are clipped."""
        check_wave(wave_BT, lengths_B)
        samples_BT = (mask_rows(wave_BT, lengths_B).double() * _FULL_SCALE).round()
        codes_BT = samples_BT.clamp(-_FULL_SCALE, _FULL_SCALE - 1).to(torch.int64)
        return Codes(codes_BT[:, None], lengths_B.to(torch.int64))

    def decode(self, codes: Codes) -> Wave:
        """(B, 1, T) -> (B, T) float32."""
        check_code_lengths(codes)
        wave_BT = mask_rows(self.embed(codes.codes_BQT)[:, 0], codes.lengths_B)
        return Wave(wave_BT, codes.lengths_B.to(torch.int64), self.sample_rate)

    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """(B, 1, T) -> (B, 1, T) float32 samples."""
        check_codes(codes_BQT, self.n_codebooks, -_FULL_SCALE, _FULL_SCALE - 1)
        check_level_range(codes_BQT.shape[1], first_level, self.n_codebooks)
        return codes_BQT.float() / _FULL_SCALE
