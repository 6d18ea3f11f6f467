"""A RetNet decoder's folder is read; what another version of torchscale stores is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints import StateReader, give_renamed, hub_files, same_tensors
from models.layers import checkpoint_torchscale as torchscale
from models.layers.retention import Parallel
from models.layers.retnet import retnet

CONFIG = {
    "decoder_embed_dim": 16,
    "decoder_retention_heads": 2,
    "decoder_ffn_embed_dim": 32,
    "decoder_layers": 2,
}


@pytest.fixture
def stack():
    torch.manual_seed(0)
    return retnet(16, 2, 2, 32).eval()


def state_of(stack):
    state = stack.state_dict()
    return give_renamed(same_tensors(torchscale.names(2), state), state) | torchscale.constants(16, 2)


def test_a_folder_is_read(stack, tmp_path):
    save_file(state_of(stack), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    config, state = hub_files(tmp_path)
    loaded = torchscale.convert(config, StateReader("retnet", state))
    x = torch.randn(2, 7, 16)
    assert torch.equal(loaded(x, Parallel()), stack(x, Parallel()))


def test_the_constants_are_those_of_the_forms():
    """Decay and rotation are computed, not stored; what is written beside the weights must agree with them."""
    found = torchscale.constants(16, 2)
    torch.testing.assert_close(found["retnet_rel_pos.decay"].exp(), torch.tensor([1 - 2**-5, 1 - 2**-6]))
    angles = torch.tensor([1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(found["retnet_rel_pos.angle"], angles.repeat_interleave(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_fn": "swish"}, "activation_fn is 'swish'; only 'gelu' is known"),
        ({"subln": False}, "subln is False; only True is known"),
        ({"deepnorm": True}, "unknown configuration key 'deepnorm'"),
    ],
)
def test_other_decoders_are_refused(stack, change, message):
    with pytest.raises(ValueError, match=message):
        torchscale.convert(CONFIG | change, StateReader("retnet", state_of(stack)))


def test_a_gated_feed_forward_of_a_later_version_is_refused(stack):
    state = state_of(stack) | {"layers.0.ffn.gate.weight": torch.zeros(32, 16)}
    with pytest.raises(ValueError, match=r"layers\.0\.ffn\.gate\.weight is not consumed"):
        torchscale.convert(CONFIG, StateReader("retnet", state))
