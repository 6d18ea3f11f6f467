"""A codec that does what it is told, for stages and systems that are tested alone."""

import pytest
import torch

from models.codecs.interface import Codes, Wave
from models.identity import TokenIdentity


class Coder:
    """A frame's code is the number of samples at or above a half, on each level; so many last frames are missing."""

    def __init__(self, name, sample_rate, hop, levels, size, missing=0):
        self.identity = TokenIdentity(name, "1", "", sample_rate, hop, levels, size)
        self.name, self.sample_rate, self.hop_length = name, sample_rate, hop
        self.encoded = 0
        self.n_codebooks, self.codebook_size, self.missing = levels, size, missing

    def encode(self, wave_BT, lengths_B):
        self.encoded += 1
        padded = torch.nn.functional.pad(wave_BT, (0, -wave_BT.shape[1] % self.hop_length))
        codes_BT = (padded.unflatten(1, (-1, self.hop_length)) >= 0.5).sum(-1)
        codes_BT = codes_BT[:, : codes_BT.shape[1] - self.missing]
        lengths_B = torch.full_like(lengths_B, codes_BT.shape[1])
        return Codes(codes_BT[:, None].repeat(1, self.n_codebooks, 1), lengths_B)

    def decode(self, codes):
        self.decoded = codes
        return Wave(codes.codes_BQT.sum(1).float(), codes.lengths_B * self.hop_length, self.sample_rate)


@pytest.fixture
def coder():
    return Coder
