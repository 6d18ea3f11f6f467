"""Layers that are computed again give the same gradients, and keep less in between."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.families import FAMILIES
from models.manifest import Padding, Trainable
from trainers.activation_checkpointing import checkpoint_activations

TRAINABLES = [one for family in FAMILIES for one in family.trainables if one.example is not None]


def stepped(module: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
    """The output, the gradients, and the bytes of activations that were kept for them."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(5)  # of dropout
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(**inputs)
    bytes_kept = sum(kept.values())
    torch.manual_seed(6)  # what is computed again draws as before all the same
    output.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return output.detach(), gradients, bytes_kept


@pytest.mark.parametrize("trainable", TRAINABLES, ids=[one.name for one in TRAINABLES])
def test_results_stay_and_less_is_kept(trainable: Trainable) -> None:
    assert trainable.example is not None
    example = trainable.example()
    torch.manual_seed(3)
    module = trainable.module(example.config).train()
    inputs = example.batch(example.rows, Padding())
    output, gradients, kept = stepped(module, inputs)
    names = list(module.state_dict())
    assert checkpoint_activations([module]) >= 1
    assert list(module.state_dict()) == names
    again, same, less = stepped(module, inputs)
    assert torch.equal(again, output)
    assert gradients.keys() == same.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, msg=name)
    assert less < kept


def test_a_copy_computes_with_its_own_weights() -> None:
    trainable = next(one for one in TRAINABLES if one.name == "maskgct_t2s")
    assert trainable.example is not None
    example = trainable.example()
    torch.manual_seed(3)
    module = trainable.module(example.config).eval()
    checkpoint_activations([module])
    copied = copy.deepcopy(module)
    inputs = example.batch(example.rows, Padding())
    before = copied(**inputs)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        assert torch.equal(copied(**inputs), before)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(
        ValueError, match="activation_checkpointing is true: the network has no stack of layers"
    ):
        checkpoint_activations([nn.Linear(2, 2)])
