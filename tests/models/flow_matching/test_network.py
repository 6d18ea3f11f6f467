"""The velocity networks: published sizes, inputs and refusals (padding, gradients and batches: tests/models)."""

import pytest
import torch

from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)

TINY = {"hidden_size": 12, "latent_size": 5, "n_layers": 2, "n_heads": 2, "feed_forward_size": 16}


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [("transformer", 154.24), ("uformer", 164.74), ("conformer", 331.43), ("uconformer", 341.92)],
)
def test_the_default_sizes_are_the_published_ones(backbone, millions):
    with torch.device("meta"):
        module = ConditionalFlowMatcher(FlowMatchingConfig(backbone=backbone))
    assert sum(parameter.numel() for parameter in module.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.005
    )


@pytest.mark.parametrize(
    ("settings", "reads"),
    [({}, False), ({"concat_cond": True}, True), ({"start_from_cond": False}, True)],
)
def test_the_semantic_embedding_is_read_where_the_settings_say_so(settings, reads):
    module = ConditionalFlowMatcher(FlowMatchingConfig(**TINY, **settings))
    inputs = torch.randn(2, 4, 5), torch.rand(2)
    prompt = torch.randn(2, 4, 5)
    one, other = (module(*inputs, torch.randn(2, 4, 5), prompt, None) for _ in range(2))
    assert torch.equal(one, other) is not reads


def test_dropped_rows_see_neither_prompt_nor_semantic_embedding():
    module = ConditionalFlowMatcher(FlowMatchingConfig(**TINY, concat_cond=True))
    state, times, keep = torch.randn(2, 4, 5), torch.rand(2), torch.tensor([True, False])
    one, other = (
        module(state, times, torch.randn(2, 4, 5), torch.randn(2, 4, 5), None, keep) for _ in range(2)
    )
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], other[0])


def test_ids_are_embedded_as_zeros_at_padding():
    module = HierarchicalConditionalFlowMatcher(HierarchicalFlowMatchingConfig(**TINY, n_semantic_tokens=4))
    mask = torch.tensor([[True, True, False]])
    embedded = module.embed_semantic(torch.tensor([[3, 0, 2]]), mask)
    assert torch.equal(embedded[0, 0], module.semantic_table.weight[3])
    assert not embedded[0, 2].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlowMatchingConfig(**TINY, sigma=1.0), r"sigma is 1.0; it must be in \[0, 1\)"),
        (
            lambda: FlowMatchingConfig(**(TINY | {"latent_size": 0})),
            "latent_size is 0; it must be a positive integer",
        ),
        (lambda: FlowMatchingConfig(**TINY, time_condition_size=-1), "time_condition_size is -1"),
        (
            lambda: HierarchicalFlowMatchingConfig(**TINY, n_semantic_tokens=4, start_from_cond=True),
            "start_from_cond is on; it needs a fixed semantic embedding",
        ),
        (
            lambda: HierarchicalFlowMatchingConfig(**TINY, n_semantic_tokens=4, explicit=True),
            "explicit is on; it needs a fixed semantic embedding",
        ),
        (lambda: HierarchicalFlowMatchingConfig(**TINY, n_semantic_tokens=0), "n_semantic_tokens is 0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
