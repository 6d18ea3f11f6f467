"""Forward diffusion of masked-generative training: which codes of a batch are hidden from the network.

Section 3.1 of arXiv 2409.00750 with the settings of choiHkk/maskgct. A pure function of lengths and draws;
the loss belongs to the trainer. Shapes: B rows, T frames, Q levels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.layers.checks import check_shares
from models.sampling.draws import CorruptionDraws

LayerSchedule = Literal["cosine", "linear", "uniform"]


@dataclass(frozen=True)
class CorruptionConfig:
    """Settings of corrupting a batch; defaults are those of T2S with the fixed behaviour."""

    min_mask_prob: float = 0.2
    """Floor of the mask probability: 0.2 in T2S, 0 in S2A."""
    prompt_drop_prob: float = 0.2
    """Probability that no frames are given as a prompt: 0.2 in T2S, 0.15 in S2A."""
    text_drop_prob: float = 0.1
    """Probability that a row loses text and prompt, which trains the sampler's unconditional branch.

    The reference has 0: its sampler's unconditional branch was never trained.
    """
    min_prompt_frames: int = 5
    max_prompt_fraction: float = 0.4
    draw_per: Literal["row", "batch"] = "row"
    """Whether the prompt coin and the level are drawn for each row or, as in the reference, once per batch."""

    def __post_init__(self) -> None:
        check_shares(self, ["min_mask_prob", "prompt_drop_prob", "text_drop_prob", "max_prompt_fraction"])
        if self.min_prompt_frames < 0:
            raise ValueError(f"min_prompt_frames is {self.min_prompt_frames}; it must not be negative")


@dataclass(frozen=True)
class Corruption:
    """Result of `corrupt`."""

    times_B: Tensor
    """Diffusion time in [1e-5, 1], float32."""
    mask_prob_B: Tensor
    prompt_lengths_B: Tensor
    """Leading frames that are given, int64."""
    masked_BT: Tensor
    """Bool, true at the hidden codes; at least one valid frame of every row that is not empty."""
    keep_text_B: Tensor
    """Bool, false where the text is dropped."""
    levels_B: Tensor
    """Level that is learned, int64; 0 without `level_weights_Q`."""


def corrupt(
    lengths_B: Tensor,
    n_frames: int,
    config: CorruptionConfig,
    draws: CorruptionDraws,
    level_weights_Q: Tensor | None = None,
) -> Corruption:
    """Decide what is hidden in a batch of `n_frames` padded frames with `lengths_B` valid ones.

    The reference treats padding as frames here: to repeat it, give `n_frames` as the length of every row.

    Draw order (that of the reference): times, levels (only with `level_weights_Q`), prompt coins, prompt
    lengths (not if no row has a prompt), text coins (only if text_drop_prob > 0), mask.
    """
    n_rows = len(lengths_B)
    n_coins = 1 if config.draw_per == "batch" else n_rows
    times_B = draws.rand(n_rows).clamp(1e-5, 1.0)
    levels_B = torch.zeros_like(lengths_B)
    if level_weights_Q is not None:
        levels_B = draws.multinomial(level_weights_Q, n_coins).expand(n_rows)
    has_prompt_B = (draws.rand(n_coins) > config.prompt_drop_prob).expand(n_rows)
    prompt_lengths_B = torch.zeros_like(lengths_B)
    if config.draw_per == "row" or has_prompt_B[0]:
        prompt_lengths_B = torch.where(has_prompt_B, _draw_prompt_lengths(lengths_B, config, draws), 0)
    keep_text_B = torch.ones_like(has_prompt_B)
    if config.text_drop_prob > 0:
        keep_text_B = draws.rand(n_rows) >= config.text_drop_prob
        prompt_lengths_B = torch.where(keep_text_B, prompt_lengths_B, 0)
    mask_prob_B = torch.sin(times_B * math.pi / 2).clamp(min=config.min_mask_prob)
    drawn_BT = draws.bernoulli(mask_prob_B[:, None].expand(n_rows, n_frames))
    masked_BT = _outside_prompt(drawn_BT, prompt_lengths_B, lengths_B)
    return Corruption(times_B, mask_prob_B, prompt_lengths_B, masked_BT, keep_text_B, levels_B)


def _draw_prompt_lengths(lengths_B: Tensor, config: CorruptionConfig, draws: CorruptionDraws) -> Tensor:
    low_B = torch.clamp(lengths_B // 4, max=config.min_prompt_frames)
    high_B = (lengths_B * config.max_prompt_fraction).long()
    return torch.where(high_B > low_B, draws.randint(low_B, high_B), 0)


def _outside_prompt(drawn_BT: Tensor, prompt_lengths_B: Tensor, lengths_B: Tensor) -> Tensor:
    frames_T = torch.arange(drawn_BT.shape[1], device=drawn_BT.device)
    masked_BT = drawn_BT & (frames_T >= prompt_lengths_B[:, None]) & (frames_T < lengths_B[:, None])
    first_BT = frames_T == prompt_lengths_B[:, None]
    return masked_BT | (first_BT & ~masked_BT.any(1, keepdim=True))


def level_weights(n_levels: int, schedule: LayerSchedule, first_level: int = 0) -> Tensor:
    """Return unnormalised float32 weights (Q,) of drawing each level in S2A training.

    Levels below `first_level` are never drawn. Coarser levels are drawn more often except in "uniform".
    """
    index_Q = torch.arange(n_levels, dtype=torch.float32) - first_level
    if schedule == "cosine":
        weights_Q = torch.cos(index_Q / n_levels * (math.pi / 2))
    elif schedule == "linear":
        weights_Q = n_levels - index_Q
    else:
        weights_Q = torch.ones(n_levels)
    return torch.where(index_Q >= 0, weights_Q, 0.0)
