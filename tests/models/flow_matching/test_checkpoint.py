"""Released folders of flow matchers: what is written comes back, what does not fit is refused."""

import pytest
import torch

from models.checkpoints import StateReader
from models.flow_matching import checkpoint_speechgpt_gen as checkpoint
from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)
from models.layers.checkpoint_speechgpt_gen import write_released

SIZES = {"hidden_size": 12, "latent_size": 12, "n_layers": 3, "n_heads": 2, "feed_forward_size": 24}
MODULES = {
    "uconformer": lambda: ConditionalFlowMatcher(
        FlowMatchingConfig(**SIZES, conv_causal=True, positions="t5")
    ),
    "conformer": lambda: ConditionalFlowMatcher(
        FlowMatchingConfig(**SIZES, backbone="conformer", time_condition_size=7, explicit=True, sigma=0.1)
    ),
    "uformer": lambda: ConditionalFlowMatcher(
        FlowMatchingConfig(**SIZES, backbone="uformer", rope_on_keys=False, dropout=0.1)
    ),
    "hierarchical": lambda: HierarchicalConditionalFlowMatcher(
        HierarchicalFlowMatchingConfig(**SIZES, n_semantic_tokens=5)
    ),
}


def reader_of(state):
    return StateReader("released", state)


@pytest.mark.parametrize("kind", MODULES)
def test_a_written_folder_brings_the_module_back(kind, tmp_path):
    module = MODULES[kind]()
    hierarchical = kind == "hierarchical"
    files, convert = checkpoint.files, checkpoint.convert
    if hierarchical:
        files, convert = checkpoint.files_hierarchical, checkpoint.convert_hierarchical
    config, state = checkpoint.published_config(module), checkpoint.published_state(module)
    write_released(tmp_path, type(module).__name__, config, state)
    back = convert(*(lambda found: (found[0], reader_of(found[1])))(files(tmp_path)))
    assert type(back) is type(module)
    assert back.config == module.config
    assert not back.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_the_misspelt_residual_stays_off():
    module = MODULES["uconformer"]()
    config = checkpoint.published_config(module) | {"explict": True, "ode_step_size": 0.1}
    del config["explicit"]
    back = checkpoint.convert(config, reader_of(checkpoint.published_state(module)))
    assert not back.config.explicit


def test_everything_that_is_wrong_is_listed():
    module = MODULES["uconformer"]()
    state = checkpoint.published_state(module) | {"extra": torch.zeros(1), "to_embed.bias": torch.zeros(3)}
    del state["to_pred.weight"]
    with pytest.raises(ValueError, match="released: the state dict does not fit") as caught:
        checkpoint.convert(checkpoint.published_config(module), reader_of(state))
    for problem in (
        "to_pred.weight is missing",
        "to_embed.bias has shape (3,), not (12,)",
        "extra is not consumed",
    ):
        assert problem in str(caught.value)


BACKBONE = {"dim": 12, "depth": 1, "heads": 2}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "released: the configuration lacks 'backbone_kwargs'"),
        ({"backbone_kwargs": {"dim": 12}}, "backbone_kwargs: the configuration lacks 'depth'"),
        ({"backbone_kwargs": BACKBONE, "dim_in": 8}, "dim_in is 8; the reference needs dim = 12"),
        ({"backbone_kwargs": BACKBONE, "solver": "rk4"}, "unknown configuration key 'solver'"),
        ({"backbone_kwargs": BACKBONE | {"adaptive_rmsnorm": True}}, "adaptive_rmsnorm needs a size"),
        ({"backbone_kwargs": BACKBONE, "backbone_type": "unet"}, "backbone is 'unet'"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.convert(config, reader_of({}))


def test_tokens_must_be_counted():
    with pytest.raises(ValueError, match="the configuration lacks 'num_semantic_tokens'"):
        checkpoint.convert_hierarchical({"backbone_kwargs": BACKBONE}, reader_of({}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_size": 8}, "latent_size is 8; the published format needs hidden_size = 12"),
        ({"feed_forward_size": 20}, "feed_forward_size is 20; the published format needs a multiple"),
        (
            {"backbone": "transformer"},
            "rope_on_keys is on; the published transformer rotates the queries alone",
        ),
    ],
)
def test_what_the_reference_cannot_be_is_not_written(change, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.published_config(ConditionalFlowMatcher(FlowMatchingConfig(**(SIZES | change))))


def test_folders_that_are_not_released_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no model_config.yml; it must hold model_config.yml and Cond"):
        checkpoint.files(tmp_path)
    (tmp_path / "model_config.yml").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"has no ConditionalFlowMatcher_best_dev.pt"):
        checkpoint.files(tmp_path)
    torch.save({}, tmp_path / "ConditionalFlowMatcher_best_dev.pt")
    with pytest.raises(ValueError, match=r"model_config.yml holds list; it must be a mapping"):
        checkpoint.files(tmp_path)
    (tmp_path / "model_config.yml").write_text("a: [")
    with pytest.raises(ValueError, match=r"model_config.yml is not YAML"):
        checkpoint.files(tmp_path)
