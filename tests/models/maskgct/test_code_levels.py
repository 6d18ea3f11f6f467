"""The input of a frame is a sum over all levels, whatever part of it is computed beforehand."""

from functools import partial

import pytest
import torch

from models.maskgct import example
from models.maskgct.s2a import MaskGCTS2A
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A

NETWORKS = {
    "with padding ids": lambda: MaskGCTS2A(example.s2a().config),
    "three levels": lambda: MaskGCTSemanticS2A(example.semantic_s2a().config),
    "one level": lambda: MaskGCTSemanticS2A(example.semantic_s2a(1).config),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    module = NETWORKS[request.param]()
    torch.nn.init.normal_(module.code_table.weight)
    return module


def inputs(network, device="cpu"):
    codes_BTQ = torch.randint(0, network.config.codebook_size, (2, 5, network.n_levels))
    masked_BT = torch.rand(2, 5) < 0.5
    return codes_BTQ.to(device), masked_BT.to(device)


def test_every_level_has_rows_of_its_own_and_one_mask(network):
    codes_BTQ, masked_BT = inputs(network)
    table, expected = network.code_table.weight, torch.zeros(2, 5, network.code_table.embedding_dim)
    size = network.config.codebook_size + isinstance(network, MaskGCTS2A)
    assert len(table) == network.n_levels * size + 1
    for level in range(network.n_levels):
        expected += torch.where(masked_BT[..., None], table[-1], table[level * size + codes_BTQ[..., level]])
    hidden_BTQ = masked_BT[..., None].expand_as(codes_BTQ)
    torch.testing.assert_close(network.embed_codes(codes_BTQ, hidden_BTQ), expected)


def test_a_level_and_the_others_make_the_whole(network):
    """The levels above are hidden, those below are not."""
    codes_BTQ, masked_BT = inputs(network)
    for level in range(network.n_levels):
        hidden_BTQ = (torch.arange(network.n_levels) > level).repeat(2, 5, 1)
        hidden_BTQ[..., level] = masked_BT
        parts = network.embed_level(codes_BTQ[..., level], masked_BT, level)
        parts = parts + network.embed_other_levels(codes_BTQ, level)
        torch.testing.assert_close(parts, network.embed_codes(codes_BTQ, hidden_BTQ))


def test_everything_is_on_the_device_of_the_network(network):
    """The device without values stands for one that this machine may not have."""
    network = network.to("meta")
    codes_BTQ, masked_BT = inputs(network, "meta")
    others = network.embed_other_levels(codes_BTQ, 0)
    whole = network.embed_codes(codes_BTQ, masked_BT[..., None].expand_as(codes_BTQ))
    assert others.device == whole.device == torch.device("meta")


@pytest.mark.parametrize("make", [example.s2a, example.semantic_s2a, partial(example.semantic_s2a, 3, 1)])
def test_logits_of_chosen_frames_are_those_of_their_rows_levels(make):
    """A level has its own head, also where the first heads are left out."""
    torch.manual_seed(0)
    config = make().config
    network = MaskGCTS2A(config) if make is example.s2a else MaskGCTSemanticS2A(config)
    torch.nn.init.normal_(network.heads.weight_QVD)
    levels_B = torch.tensor([2, 1, 2])
    where_BT = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]).bool()
    states_BTD = torch.randn(3, 4, config.hidden_size)
    expected = [network.logits(states_BTD[row], int(levels_B[row]))[where_BT[row]] for row in range(3)]
    found = network.logits_at(states_BTD[where_BT], levels_B, where_BT)
    torch.testing.assert_close(found, torch.cat(expected))


@pytest.mark.parametrize("make", [example.s2a, example.semantic_s2a])
def test_a_frame_is_its_codes_and_what_is_generated(make):
    """A frame of the prompt, one that is masked at level 1, one that is not; the first alone has levels above."""
    torch.manual_seed(0)
    config = make().config
    network = MaskGCTS2A(config) if make is example.s2a else MaskGCTSemanticS2A(config)
    codes_BTQ, level_B = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 0]]]), torch.tensor([1])
    prompt_BT, masked_BT = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    hidden_BTQ = torch.tensor([[[0, 0, 0], [0, 1, 1], [0, 0, 1]]]).bool()
    text_BL, semantic_BT, time_B = torch.tensor([[2, 1]]), torch.tensor([[5, 0, 7]]), torch.tensor([0.5])
    trunk = network.trunk.transformer if make is example.s2a else network.transformer
    seen = []
    trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames = (codes_BTQ, masked_BT, prompt_BT, torch.ones(1, 3).bool(), level_B, time_B)
    known = network.embed_codes(codes_BTQ, hidden_BTQ)
    if make is example.s2a:
        network(text_BL, torch.ones(1, 2).bool(), *frames)
        torch.testing.assert_close(seen[0][:, :2], network.trunk.embed_text(text_BL))
        torch.testing.assert_close(seen[0][:, 2:], known + network.condition(level_B))
    else:
        network(semantic_BT, *frames)
        torch.testing.assert_close(seen[0], known + network.condition(semantic_BT, level_B))
