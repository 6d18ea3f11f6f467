"""Logits at the hidden frames alone, from packed rows, against those of padded rows at every frame."""

import pytest
import torch

from models.manifest import Padding
from models.maskgct.family import FAMILY

NETWORKS = {one.name: one for one in FAMILY.trainables}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_at_hidden_frames_and_their_gradients_are_the_same(name, side):
    example = NETWORKS[name].example()
    torch.manual_seed(1)
    module = NETWORKS[name].module(example.config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    inputs = example.batch(example.rows, Padding(3, side))
    where_BT = inputs["masked_BT"]
    assert 0 < where_BT.sum() < where_BT.numel()

    def gradients(logits_MV):
        module.zero_grad()
        logits_MV.square().sum().backward()
        return {key: parameter.grad.clone() for key, parameter in module.named_parameters()}

    every_MV, alone_MV = module(**inputs)[where_BT], module(**inputs, where_BT=where_BT)
    torch.testing.assert_close(alone_MV, every_MV, rtol=1e-4, atol=1e-5)
    expected = gradients(every_MV)
    for key, found in gradients(alone_MV).items():
        torch.testing.assert_close(
            found, expected[key], rtol=1e-3, atol=1e-3 * float(expected[key].abs().max())
        )
