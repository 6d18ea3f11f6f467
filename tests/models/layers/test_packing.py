"""Rows are moved to the left and back, wherever their padding stands."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.layers.packing import LeftAligned

ROW = st.lists(st.booleans(), min_size=6, max_size=6).filter(any)


@given(st.lists(ROW, min_size=1, max_size=4))
def test_rows_are_aligned_and_restored(masks):
    mask = torch.tensor(masks)
    x = torch.arange(mask.numel() * 2).view(*mask.shape, 2)
    rows = LeftAligned(mask)
    aligned = rows.align(x)
    assert aligned.shape[1] == int(mask.sum(1).max())
    for row, valid in enumerate(mask):
        assert torch.equal(aligned[row, : int(valid.sum())], x[row, valid])
        assert rows.mask_BM[row].sum() == valid.sum() == rows.lengths_B[row]
    assert torch.equal(rows.restore(aligned)[mask], x[mask])
