"""The packed path equals the padded one; positions are relative."""

from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import attention
from models.layers.packing import Packing, rows_to_positions
from models.layers.rope import rotate, rotation_at
from models.layers.transformer import NonCausalTransformer


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
@settings(deadline=None, max_examples=60)
def test_packed_equals_padded(lengths, left, own_times, row_by_row, seed):
    torch.manual_seed(seed)
    transformer = NonCausalTransformer(16, 2, 2, 24)
    mask = torch.arange(10) < torch.tensor(lengths)[:, None]
    mask = mask.flip(1) if left else mask
    x, time = torch.randn(len(lengths), 10, 16), torch.rand(len(lengths) if own_times else 1)
    packing = Packing(mask)
    long_row = 0 if row_by_row else 1000
    with torch.no_grad(), patch.dict(attention._LONG_ROW, {False: long_row}):
        padded = transformer(x, time, mask, None)
        packed = transformer.run(packing.pack(x), time, transformer.packed(packing))
    assert packed.shape == (1, sum(lengths), 16)
    torch.testing.assert_close(packing.unpack(packed)[mask], padded[mask], rtol=1e-4, atol=1e-5)


def test_rows_to_positions_finds_each_part():
    first, second = torch.arange(6).view(2, 3), torch.arange(100, 104).view(2, 2)
    flat = torch.cat([first.flatten(), second.flatten()])
    where = rows_to_positions(2, 3, 2, device=flat.device)
    assert torch.equal(flat[where], torch.cat([first, second], dim=1))


def test_rotation_depends_on_distance_only():
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(at_query, at_key):
        turned = [
            rotate(x, rotation_at(torch.tensor([[n]]), 8)) for x, n in ((query, at_query), (key, at_key))
        ]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(3, 9), score(40, 46), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(score(3, 9), score(3, 10))
