"""SoundStorm's network: published size, logits where they are wanted (padding, gradients, batches: tests/models)."""

import pytest
import torch

from models.soundstorm.network import SoundStorm, SoundStormConfig

TINY = {"hidden_size": 12, "n_layers": 2, "n_heads": 2, "feed_forward_size": 16, "conv_kernel_size": 3}


def build():
    torch.manual_seed(0)
    module = SoundStorm(SoundStormConfig(**TINY, n_semantic_tokens=5, n_codebooks=3, codebook_size=9))
    return module.eval()


def test_the_default_size_is_the_published_one():
    with torch.device("meta"):
        module = SoundStorm(SoundStormConfig(n_semantic_tokens=1024))
    assert sum(parameter.numel() for parameter in module.parameters()) / 1e6 == pytest.approx(351.4, abs=0.05)


@pytest.mark.parametrize("levels", [[0, 2, 1], [2, 0, 2]])
def test_logits_where_they_are_wanted_are_those_of_all_frames(levels):
    module = build()
    masked, mask = torch.rand(3, 7) < 0.5, torch.arange(7) < torch.tensor([[7], [4], [5]])
    inputs = (
        torch.randint(0, 5, (3, 7)),
        torch.randint(0, 9, (3, 7, 3)),
        masked,
        torch.arange(7).expand(3, 7) < 2,
    )
    wanted = masked & mask
    with torch.no_grad():
        everywhere = module(*inputs, mask, torch.tensor(levels))
        there = module(*inputs, mask, torch.tensor(levels), where_BT=wanted)
    torch.testing.assert_close(there, everywhere[wanted])


def test_every_head_has_a_gradient_even_unused():
    module = build()
    where = torch.tensor([[True, False, True]])
    inputs = (torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, 3, dtype=torch.int64))
    module(*inputs, where, ~where, None, torch.tensor([1]), where_BT=where).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert module.heads.logits.weight_QVD.grad[1].abs().sum() > 0
    assert not module.heads.logits.weight_QVD.grad[[0, 2]].any()


def test_codes_are_summed_over_levels():
    module = build()
    codes, hidden = torch.tensor([[[4, 0, 8]]]), torch.tensor([[[False, True, False]]])
    rows = module.code_table.weight[[4, 10 + 9, 20 + 8]]
    torch.testing.assert_close(module.embed_codes(codes, hidden)[0, 0], rows.sum(0))
    assert not module.embed_semantic(torch.tensor([[-1]])).any()


@pytest.mark.parametrize("name", ["n_semantic_tokens", "n_codebooks", "codebook_size"])
def test_sizes_are_checked(name):
    sizes = TINY | {"n_semantic_tokens": 5, name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; it must be a positive integer"):
        SoundStormConfig(**sizes)
