"""Checkpoints that do not fit are refused with everything that is wrong (parity itself: tests/golden)."""

import pytest
import torch

from models.interop import load

CONFIG = {"vocab_size": 5, "hidden_size": 8, "num_layers": 1, "num_heads": 2, "codebook_size": 4}


def reference_state():
    """A state dict under the reference's names, all sizes from CONFIG."""
    shapes = {"cond_emb.weight": (5, 8), "mask_emb.weight": (1, 8), "phone_emb.weight": (5, 8)}
    shapes |= {"to_logit.weight": (4, 8), "to_logit.bias": (4,)}
    for name in ("diff_step_mlp", "cond_mlp"):
        mlp = {"0.weight": (32, 8), "0.bias": (32,), "2.weight": (8, 32), "2.bias": (8,)}
        shapes |= {f"diff_estimator.{name}.{key}": shape for key, shape in mlp.items()}
    norms = ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"]
    for name in norms:
        shapes |= {
            f"diff_estimator.{name}.to_weight.weight": (8, 8),
            f"diff_estimator.{name}.to_weight.bias": (8,),
        }
    shapes |= {f"diff_estimator.layers.0.self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"}
    shapes |= {f"diff_estimator.layers.0.mlp.{name}_proj.weight": (32, 8) for name in ("gate", "up")}
    shapes["diff_estimator.layers.0.mlp.down_proj.weight"] = (8, 32)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_a_fitting_state_is_taken_over():
    state = reference_state()
    module = load("choihkk-maskgct-t2s", CONFIG, state)
    assert not module.training
    assert torch.equal(module.head.weight, state["to_logit.weight"])
    assert sum(p.numel() for p in module.parameters()) == sum(t.numel() for t in state.values())


def test_everything_that_is_wrong_is_listed():
    state = reference_state() | {"extra.weight": torch.zeros(1), "to_logit.bias": torch.zeros(3)}
    del state["mask_emb.weight"]
    with pytest.raises(ValueError, match="choihkk-maskgct-t2s: the state dict does not fit") as caught:
        load("choihkk-maskgct-t2s", CONFIG, state)
    for problem in (
        "mask_emb.weight is missing",
        "to_logit.bias has shape (3,), not (4,)",
        "extra.weight is not consumed",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("source", "config", "message"),
    [
        ("choi", CONFIG, "unknown checkpoint source 'choi'; known: amphion-8d-decoder, .*toktts"),
        (
            "choihkk-maskgct-t2s",
            CONFIG | {"layers": 2},
            "unknown configuration key 'layers'; known: vocab_size",
        ),
        ("choihkk-maskgct-s2a", {}, "choihkk-maskgct-s2a: the configuration lacks 'vocab_size'"),
    ],
)
def test_wrong_words_are_refused(source, config, message):
    with pytest.raises(ValueError, match=message):
        load(source, config, {})
