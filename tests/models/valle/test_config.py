"""Sizes, presets, tasks and tables that grow."""

import pytest
import torch

from models.manifest import Padding
from models.tasks import TASK_TOKENS, task_frame
from models.valle import example
from models.valle.ar import ValleAR
from models.valle.config import SIZES, ValleARConfig, ValleNARConfig
from models.valle.growth import grown
from models.valle.nar import ValleNAR


@pytest.mark.parametrize("size", sorted(SIZES))
def test_presets_build(size):
    sizes = SIZES[size]
    assert sizes["hidden_size"] // sizes["n_heads"] == 64
    with torch.device("meta"):
        module = ValleAR(ValleARConfig(1024, **sizes))
    assert len(module.trunk.blocks) == 12


def test_the_full_size_has_the_parameters_of_the_published_one():
    """156.4 M with two prompt levels and eight tasks, the first and the second network alike."""
    with torch.device("meta"):
        first = ValleAR(ValleARConfig(1024, prompt_levels=2, n_task_tokens=7))
        other = ValleNAR(ValleNARConfig(1024, prompt_levels=2, n_task_tokens=7, n_codebooks=2))
    for module in (first, other):
        assert round(sum(p.numel() for p in module.parameters()) / 1e6, 1) == 156.4


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (
            ValleARConfig,
            {"hidden_size": 18},
            "hidden_size is 18 with n_heads 4; it must be a multiple of",
        ),
        (ValleARConfig, {"n_layers": 0}, "n_layers is 0; it must be a positive integer"),
        (ValleARConfig, {"trunk": "lstm"}, "trunk is 'lstm'; it must be one of transformer, retnet"),
        (ValleARConfig, {"n_task_tokens": -1}, "n_task_tokens is -1; it must not be negative"),
        (ValleARConfig, {"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        (
            ValleNARConfig,
            {"trunk": "retnet"},
            "trunk is 'retnet'; it must be one of transformer, causal_retnet",
        ),
        (
            ValleNARConfig,
            {"n_codebooks": 1},
            "n_codebooks is 1; a codec of one level needs no second network",
        ),
    ],
)
def test_sizes_that_cannot_work_are_refused(config, values, message):
    with pytest.raises(ValueError, match=message):
        config(**({"text_vocab_size": 9, "hidden_size": 16, "n_heads": 4} | values))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "build"), [("ar", ValleAR), ("nar", ValleNAR)])
def test_larger_tables_compute_the_same(kind, build):
    given = getattr(example, kind)()
    torch.manual_seed(0)
    module, inputs = build(given.config).eval(), given.batch(given.rows, Padding())
    larger = grown(module, prompt_levels=5, n_task_tokens=7, text_vocab_size=20)
    assert larger.config.prompt_levels == 5
    assert torch.equal(larger(**inputs), module(**inputs))
    assert not larger.training
    inputs["prompt_BPQ"] = torch.full((3, 1, 5), 9 + 6)
    inputs["prompt_mask_BP"] = torch.ones(3, 1, dtype=torch.bool)
    assert larger(**inputs).isfinite().all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 32},
            "hidden_size cannot grow; only text_vocab_size, prompt_levels, n_task_tokens can",
        ),
        ({"prompt_levels": 2}, "prompt_levels is 3; it cannot shrink to 2"),
    ],
)
def test_what_cannot_grow_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        grown(ValleAR(example.ar().config), **sizes)


def test_a_prompt_of_more_levels_is_refused():
    inputs = example.ar().batch(example.ar().rows, Padding())
    inputs["prompt_BPQ"] = inputs["prompt_BPQ"].repeat(1, 1, 2)
    with pytest.raises(ValueError, match="codes have 6 levels; the most is 3"):
        ValleAR(example.ar().config)(**inputs)


def test_a_task_is_its_token_at_every_level():
    assert task_frame("ns", 1024, 7, 2).tolist() == [[1024, 1024]]
    assert task_frame("svc", 1024, 7, 3).tolist() == [[1030] * 3]
    assert len(TASK_TOKENS) == 7
    with pytest.raises(ValueError, match="unknown task token 'vc'; known: ns, sr, tse, soe, mask, eoe, svc"):
        task_frame("vc", 1024, 7, 2)
    with pytest.raises(ValueError, match="the task token 'soe' is number 4; the network has 3"):
        task_frame("soe", 1024, 3, 2)
