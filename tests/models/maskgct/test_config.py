"""Sizes that cannot work are refused."""

import dataclasses

import pytest

from models.maskgct import example


@pytest.mark.parametrize("make", [example.t2s, example.s2a, example.semantic_t2s, example.semantic_s2a])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 18}, "hidden_size is 18 with n_heads 2; it must be a multiple of 2 \\* n_heads = 4"),
        ({"n_layers": 0}, "n_layers is 0; it must be a positive integer"),
        ({"codebook_size": 9.0}, "codebook_size is 9.0; it must be a positive integer"),
    ],
)
def test_sizes_that_cannot_work_are_refused(make, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make().config, **change)
