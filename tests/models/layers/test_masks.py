"""Rows of different lengths as one padded tensor, and back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.layers.masks import length_mask, mask_rows


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_masked_rows_end_in_zeros(lengths: list[int]) -> None:
    lengths_B = torch.tensor(lengths)
    values_BCN = torch.rand(len(lengths), 2, 9) + 1
    masked_BCN = mask_rows(values_BCN, lengths_B)
    mask_BN = length_mask(lengths_B, 9)
    assert mask_BN.sum(1).tolist() == lengths
    assert torch.equal(masked_BCN, torch.where(mask_BN[:, None], values_BCN, 0.0))
    assert torch.equal(mask_rows(values_BCN[:, 0], lengths_B), masked_BCN[:, 0])
