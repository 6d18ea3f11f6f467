"""Rotary positions: numbered over what is valid, or as they are given (published: through the text's padding)."""

import pytest
import torch

from models.layers.masks import packed_positions
from models.manifest import Padding
from models.maskgct.family import FAMILY

NETWORKS = {one.name: one for one in FAMILY.trainables}


@pytest.mark.parametrize("name", NETWORKS)
def test_positions_are_those_that_are_given(name):
    example = NETWORKS[name].example()
    torch.manual_seed(1)
    module = NETWORKS[name].module(example.config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    inputs = example.batch(example.rows, Padding(2, "right"))
    valid_BT = inputs["speech_mask_BT"]
    masks = [inputs[mask] for mask in ("text_mask_BL", "speech_mask_BT") if mask in inputs]
    numbered = packed_positions(torch.cat(masks, dim=1))
    keyword = "positions_BN" if "text_mask_BL" in inputs else "positions_BT"

    def logits(positions):
        return module(**inputs, **{keyword: positions})[valid_BT]

    plain = module(**inputs)[valid_BT]
    torch.testing.assert_close(logits(numbered), plain)
    torch.testing.assert_close(logits(numbered + 7), plain, rtol=1e-3, atol=1e-4)
    assert (logits(2 * numbered) - plain).abs().max() > 0.01, "the distances count"
