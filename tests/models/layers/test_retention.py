"""The three forms of retention compute the same; the published ones agree as far as their epsilon lets them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.retention import Chunkwise, Parallel, Retained
from models.layers.retnet import retnet


def network(eps, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return retnet(16, 2, 2, 32, eps=eps).to(dtype).eval()


def recurrent(stack, x, sizes):
    """Decode `x` in calls of these sizes."""
    state, made = Retained(len(x), x.device), []
    for part in x.split(sizes, dim=1):
        state.extend(torch.full((len(x),), part.shape[1]), part.shape[1])
        made.append(stack(part, state))
    return torch.cat(made, dim=1)


@torch.no_grad()
@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from(["position", "published"]), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_the_forms_agree_without_epsilon(n_positions, chunk, normalisation, seed):
    stack = network(0.0, seed=seed)
    x = torch.randn(2, n_positions, 16, dtype=torch.float64)
    expected = stack(x, Parallel(normalisation))
    for found in (
        stack(x, Chunkwise(chunk, normalisation)),
        recurrent(stack, x, 1),
        recurrent(stack, x, chunk),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_the_default_forms_agree_with_any_epsilon_and_the_published_do_not():
    stack, x = network(1e-3), torch.randn(2, 30, 16, dtype=torch.float64)
    for block in stack.blocks:
        block.attention.key.weight *= 30
    expected = recurrent(stack, x, 1)
    for form in (Parallel(), Chunkwise(8)):
        torch.testing.assert_close(stack(x, form), expected, rtol=0, atol=1e-12)
    for form in (Parallel("published"), Chunkwise(8, "published")):
        assert not torch.allclose(stack(x, form), expected, rtol=0, atol=1e-6)


@torch.no_grad()
@given(st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=3), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_rows_of_different_lengths_decode_as_each_alone(calls):
    stack, state = network(1e-6), Retained(3, torch.device("cpu"))
    parts, found = [[], [], []], [[], [], []]
    for counts in calls:
        x = torch.randn(3, max(counts), 16, dtype=torch.float64)
        state.extend(torch.tensor(counts), max(counts))
        for row, y in enumerate(stack(x, state)):
            parts[row].append(x[row, : counts[row]])
            found[row].append(y[: counts[row]])
    for row in range(3):
        alone = stack(torch.cat(parts[row])[None], Parallel())[0]
        torch.testing.assert_close(torch.cat(found[row]), alone, rtol=0, atol=1e-9)


@torch.no_grad()
def test_reordered_rows_go_on_as_the_rows_that_they_were():
    stack, x = network(1e-6), torch.randn(3, 5, 16, dtype=torch.float64)
    expected = recurrent(stack, x, [4, 1])[:, 4:]
    state = Retained(3, x.device)
    state.extend(torch.full((3,), 4), 4)
    stack(x[:, :4], state)
    rows = torch.tensor([2, 0, 2, 1])
    state.reorder(rows)
    state.extend(torch.ones(4, dtype=torch.int64), 1)
    torch.testing.assert_close(stack(x[rows, 4:], state), expected[rows], rtol=0, atol=1e-12)


@torch.no_grad()
def test_later_positions_are_not_seen():
    stack, x = network(1e-6), torch.randn(1, 20, 16, dtype=torch.float64)
    changed = x.clone()
    changed[:, 12:] += 1
    for form in (Parallel, lambda: Chunkwise(8), lambda: Chunkwise(8, "published")):
        torch.testing.assert_close(
            stack(changed, form())[:, :12], stack(x, form())[:, :12], rtol=0, atol=1e-12
        )


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="normalisation is 'none'; it must be 'position' or 'published'"):
        Parallel("none")
    with pytest.raises(ValueError, match="chunk_size is 0; it must be at least 1"):
        Chunkwise(0)
