"""Released folders of SoundStorm: what is written comes back, what does not fit is refused."""

import pytest
import torch

from models.checkpoints import StateReader
from models.layers.checkpoint_speechgpt_gen import write_released
from models.soundstorm.checkpoint_speechgpt_gen import convert, files, published_config, published_state
from models.soundstorm.network import SoundStorm, SoundStormConfig

SIZES = {"hidden_size": 12, "n_layers": 3, "n_heads": 2, "feed_forward_size": 24}
WRAPPER = {"num_quantizers": 2, "codebook_size": 6, "backbone_kwargs": {"dim": 12, "depth": 1, "heads": 2}}
CONFIG = {"num_semantic_token_ids": 5, "BackboneWrapper": WRAPPER}


@pytest.mark.parametrize("backbone", ["conformer", "uconformer", "uformer"])
def test_a_written_folder_brings_the_module_back(backbone, tmp_path):
    settings = {**SIZES, "backbone": backbone, "rope_on_keys": backbone != "uformer"}
    module = SoundStorm(SoundStormConfig(**settings, n_semantic_tokens=5, n_codebooks=2, codebook_size=6))
    write_released(tmp_path, "SoundStorm", published_config(module), published_state(module))
    config, state = files(tmp_path)
    back = convert(config, StateReader("released", state))
    assert back.config == module.config
    for name, tensor in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "released: the configuration lacks 'num_semantic_token_ids'"),
        (CONFIG | {"BackboneWrapper": {}}, "BackboneWrapper: the configuration lacks 'num_quantizers'"),
        (
            CONFIG | {"BackboneWrapper": WRAPPER | {"grouped_quantizers": 2}},
            "grouped_quantizers is 2; it must be 1",
        ),
        (
            CONFIG
            | {
                "BackboneWrapper": WRAPPER
                | {
                    "backbone_kwargs": WRAPPER["backbone_kwargs"]
                    | {"adaptive_rmsnorm": True, "adaptive_rmsnorm_cond_dim_in": 4}
                }
            },
            "adaptive_rmsnorm is on; SoundStorm has no condition for its norms",
        ),
        (
            CONFIG,
            "the state dict does not fit: net.code_embeds.weight is missing|semantic_token_emb.weight is missing",
        ),
    ],
)
def test_what_does_not_fit_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        convert(config, StateReader("released", {}))


def test_other_modules_are_not_written():
    with pytest.raises(ValueError, match="a Linear is no SoundStorm"):
        published_state(torch.nn.Linear(1, 1))
