"""Training batches of SoundStorm: which codes of one level are hidden from the network.

Section 3.2 of arXiv 2305.09636 as in ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd. A pure function of lengths and
draws; the loss belongs to the trainer. Shapes: B rows, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from models.layers.checks import check_choice
from models.layers.masks import length_mask
from models.sampling.draws import CorruptionDraws

Schedule = Literal["cosine", "linear"]
DrawPer = Literal["row", "batch"]
LevelSchedule = Literal["uniform", "linear"]


@dataclass(frozen=True)
class CorruptionConfig:
    """Settings of corrupting a batch."""

    schedule: Schedule = "cosine"
    """Share of masked frames by the uniform time t: cos(pi t / 2) or 1 - t; published recipes have either."""
    draw_per: DrawPer = "row"
    """Prompt length and level are drawn for each row or, as in the reference, once per batch."""
    level_schedule: LevelSchedule = "uniform"
    """`linear`: of Q levels, level q is learned Q - q times as often as the last one, since those above build on it."""

    def __post_init__(self) -> None:
        check_choice(self, "schedule", get_args(Schedule))
        check_choice(self, "draw_per", get_args(DrawPer))
        check_choice(self, "level_schedule", get_args(LevelSchedule))


@dataclass(frozen=True)
class Corruption:
    """Codes to hide: those of one level at some frames, and all above it behind the prompt."""

    prompt_lengths_B: Tensor
    """Leading frames of which all levels are given, int64."""
    levels_B: Tensor
    """Level that is learned, int64."""
    masked_BT: Tensor
    """Bool, true at the frames whose code of that level is hidden; at least one of every row that is not empty."""


def corrupt(
    lengths_B: Tensor, n_frames: int, n_levels: int, config: CorruptionConfig, draws: CorruptionDraws
) -> Corruption:
    """Decide what is hidden in a batch of `n_frames` padded frames with `lengths_B` valid ones.

    Of the frames behind a row's prompt exactly ceil(share * count) are masked, at least one (the reference may mask
    none, and its loss is then not a number). Draw order: prompt lengths, times, ranking of the frames, levels.
    """
    shared = config.draw_per == "batch"
    shortest_n = lengths_B.amin(0, keepdim=True) if shared else lengths_B
    prompts_n = draws.randint(torch.zeros_like(shortest_n), shortest_n - 1)
    prompt_lengths_B = prompts_n.expand_as(lengths_B)
    times_B = draws.rand(len(lengths_B))
    shares_B = torch.cos(times_B * math.pi / 2) if config.schedule == "cosine" else 1 - times_B
    # No row needs numbers before the shortest prompt's end.
    skipped = int(prompt_lengths_B.min())
    order_BT = torch.full((len(lengths_B), n_frames), -1.0, device=lengths_B.device)
    order_BT[:, skipped:] = draws.rand(len(lengths_B), n_frames - skipped)
    masked_BT = _least(order_BT, lengths_B, prompt_lengths_B, shares_B)
    if config.level_schedule == "linear":
        levels_n = draws.multinomial(torch.arange(n_levels, 0, -1.0), len(shortest_n))
    else:
        levels_n = draws.randint(torch.zeros_like(shortest_n), torch.full_like(shortest_n, n_levels))
    return Corruption(prompt_lengths_B, levels_n.expand_as(lengths_B), masked_BT)


def _least(order_BT: Tensor, lengths_B: Tensor, prompt_lengths_B: Tensor, shares_B: Tensor) -> Tensor:
    """Mark the least of `order_BT` behind each row's prompt, a share of the frames there."""
    n_frames = order_BT.shape[1]
    eligible_BT = length_mask(lengths_B, n_frames) & ~length_mask(prompt_lengths_B, n_frames)
    rank_BT = order_BT.masked_fill(~eligible_BT, torch.inf).argsort(1).argsort(1)
    count_B = ((lengths_B - prompt_lengths_B) * shares_B).ceil().clamp(min=1)
    return (rank_BT < count_B[:, None]) & eligible_BT
