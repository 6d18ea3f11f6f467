"""A cache gives what the whole sequence gives; a memory is projected once and read by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.attention import Padded, SelfAttention
from models.layers.attention_cache import Cached, CrossAttention, Memory
from models.layers.rope import rotation_at

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def attention(seed, layer=0):
    torch.manual_seed(seed)
    return SelfAttention(16, 2, layer, qkv_bias=True, out_bias=True)


@given(st.lists(LENGTHS, min_size=1, max_size=4), st.booleans(), st.sampled_from(["used", "all"]))
@settings(deadline=None, max_examples=40)
def test_a_cache_gives_what_the_whole_sequence_gives(calls, rotary, reads):
    """Each call brings a number of positions of its own to every row."""
    n_rows = min(map(len, calls))
    layer, pieces = attention(0), [[torch.randn(n, 16) for n in counts[:n_rows]] for counts in calls]
    cache = Cached(n_rows, 40, torch.device("cpu"), head_dim=8 if rotary else None, reads=reads)
    found = [[] for _ in range(n_rows)]
    with torch.no_grad():
        for rows in pieces:
            counts = torch.tensor([len(row) for row in rows])
            size = int(counts.max())
            padded = torch.stack([torch.cat([row, torch.randn(size - len(row), 16)]) for row in rows])
            cache.extend(counts, size)
            for row, part in enumerate(layer(padded, cache)):
                found[row].append(part[: counts[row]])
        for row in range(n_rows):
            whole = torch.cat([rows[row] for rows in pieces])[None]
            assert cache.lengths_B[row] == whole.shape[1]
            rotation = rotation_at(torch.arange(whole.shape[1])[None], 8) if rotary else None
            expected = layer(whole, Padded(None, rotation, causal=True))[0]
            torch.testing.assert_close(torch.cat(found[row]), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rows", [[2, 2, 0], [1], [0, 1, 2, 0, 1, 2]])
def test_reordered_rows_go_on_as_the_rows_that_they_were(rows):
    layers = [attention(seed, seed) for seed in range(2)]
    start, then = torch.randn(3, 4, 16), torch.randn(3, 1, 16)

    def run(x, cache, count):
        cache.extend(torch.full((len(x),), count), count)
        for layer in layers:
            x = layer(x, cache)
        return x

    cache, moved = Cached(3, 6, start.device), Cached(3, 6, start.device)
    run(start, cache, 4)
    run(start, moved, 4)
    moved.reorder(torch.tensor(rows))
    expected = run(then, cache, 1)[rows]
    torch.testing.assert_close(run(then[rows], moved, 1), expected, rtol=1e-5, atol=1e-6)
    assert moved.lengths_B.tolist() == [5] * len(rows)


def test_a_full_cache_is_refused():
    cache = Cached(1, 4, torch.device("cpu"))
    cache.extend(torch.tensor([3]), 3)
    with pytest.raises(ValueError, match="5 positions do not fit a cache of 4 slots"):
        cache.extend(torch.tensor([2]), 2)


@torch.no_grad()
def test_a_memory_is_read_by_row_and_projected_once():
    torch.manual_seed(1)
    layer = CrossAttention(16, 12, 2)
    lengths, encoded, x = [5, 2, 3], torch.randn(3, 5, 12), torch.randn(3, 4, 16)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    projections = []
    layer.key_value.register_forward_hook(lambda *_: projections.append(1))
    memory = Memory(encoded, mask)
    together = layer(x, memory)
    assert torch.equal(layer(x, memory), together)
    assert len(projections) == 1
    memory.reorder(torch.tensor([1, 1, 2]))
    assert torch.equal(layer(x[[1, 1, 2]], memory), together[[1, 1, 2]])
    assert len(projections) == 1
    for row, length in enumerate(lengths):
        only = Memory(encoded[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(layer(x[row : row + 1], only)[0], together[row], rtol=1e-5, atol=1e-6)


def test_causal_attention_allows_padding_before_a_row():
    layer, x = attention(2), torch.randn(1, 6, 16, requires_grad=True)
    valid = torch.arange(6)[None] >= 2
    y = layer(x, Padded(valid, None, causal=True))
    expected = layer(x[:, 2:], Padded(None, None, causal=True))
    torch.testing.assert_close(y[:, 2:], expected, rtol=1e-5, atol=1e-6)
    y[:, 2:].sum().backward()
    assert torch.isfinite(x.grad).all()
    assert not x.grad[:, :2].any()
