"""Prompt and target side by side, and apart again."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sampling.prompted import PromptedRows


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_parts_are_joined_without_a_gap(sizes):
    prompt_lengths, lengths = [list(part) for part in zip(*sizes, strict=True)]
    rows = PromptedRows(prompt_lengths, lengths, "cpu")
    prompt = torch.arange(max(prompt_lengths)).expand(len(sizes), -1) + 100
    target = torch.arange(max(lengths)).expand(len(sizes), -1) + 200
    joined = rows.join(prompt, target)
    assert joined.shape == rows.mask_BN.shape == (len(sizes), max(p + t for p, t in sizes))
    assert (rows.valid_BN is None) == bool(rows.mask_BN.all())
    for row, (n_prompt, n_target) in enumerate(sizes):
        expected = [*range(100, 100 + n_prompt), *range(200, 200 + n_target)]
        assert joined[row, rows.mask_BN[row]].tolist() == expected
        assert joined[row, rows.prompt_mask_BN[row]].tolist() == expected[:n_prompt]
        assert rows.target(joined)[row, :n_target].tolist() == expected[n_prompt:]
        assert rows.prompt(joined)[row, :n_prompt].tolist() == expected[:n_prompt]
        assert rows.target_mask_BT[row].sum() == n_target


def test_more_axes_travel_along():
    rows = PromptedRows([1, 2], [2, 1], "cpu")
    prompt, target = torch.randn(2, 2, 3), torch.randn(2, 2, 3)
    joined = rows.join(prompt, target)
    assert torch.equal(joined[1], torch.cat([prompt[1], target[1, :1]]))
    assert torch.equal(rows.target(joined)[0], target[0])


def test_every_part_is_on_the_device_that_is_named():
    """The device without values stands for one that this machine may not have."""
    rows = PromptedRows([1, 2], [2, 1], "meta")
    joined = rows.join(torch.zeros(2, 2, device="meta"), torch.zeros(2, 2, device="meta"))
    parts = [joined, rows.target(joined), rows.mask_BN, rows.prompt_mask_BN, rows.target_mask_BT]
    assert {part.device.type for part in parts} == {"meta"}
