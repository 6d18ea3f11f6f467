"""The sampler of ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd with all that it does unlike arXiv 2305.09636.

Shapes: B rows, N frames of prompt and target, Q levels, V codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from models.sampling.draws import Draws
from models.sampling.masked import TokenChoice, choose

AllLogitsFn = Callable[[Tensor, Tensor], Tensor]
"""(codes_BNQ int64, hidden_BNQ bool) -> logits_BNQV of all levels."""


def sample_published(
    logits_fn: AllLogitsFn,
    codes_BNQ: Tensor,
    prompt_mask_BN: Tensor,
    n_steps: int,
    n_full_levels: int,
    choice: TokenChoice,
    draws: Draws,
) -> Tensor:
    """Return the codes of all frames, those of the prompt as they come out; rows have no padding.

    Every level takes n_steps + 1 rounds. In the first `n_full_levels` a round fills what is masked in any level, then
    masks again the least likely codes of all levels together (so that the level itself loses fewer than the schedule
    says, and finished levels some) and all above; the last round masks nothing. The temperature grows from 0. In
    further levels each round writes that level and all above anew, in the prompt, too.
    """
    n_frames = codes_BNQ.shape[1]
    target_BNQ = ~prompt_mask_BN[..., None].expand_as(codes_BNQ)
    fill_BNQ = hidden_BNQ = target_BNQ
    shares_S = torch.cos(torch.arange(n_steps + 1) / n_steps * (math.pi / 2))
    for level in range(codes_BNQ.shape[2]):
        for step, count in enumerate((shares_S * n_frames).long().tolist()):
            greedy = choice.last_step == "greedy" and (count == 0 or level >= n_full_levels)
            temperature = None if greedy else max(choice.temperature * step / n_steps, 1e-10)
            logits_BNQV = logits_fn(codes_BNQ, hidden_BNQ)
            chosen_BNQ, probability_BNQ = choose_levels(logits_BNQV, choice, temperature, draws)
            if level < n_full_levels:
                codes_BNQ = torch.where(fill_BNQ, chosen_BNQ, codes_BNQ)
            else:
                codes_BNQ = torch.cat([codes_BNQ[..., :level], chosen_BNQ[..., level:]], dim=-1)
            hidden_BNQ = torch.zeros_like(hidden_BNQ)
            if level < n_full_levels and count:
                fill_BNQ = hidden_BNQ = _masked_again(1 - probability_BNQ, count, level) & target_BNQ
    return codes_BNQ


def choose_levels(
    logits_BNQV: Tensor, choice: TokenChoice, temperature: float | None, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Choose the codes of all levels at once, see `choose`; levels are drawn one after another in each frame."""
    n_rows, n_frames, n_levels, _ = logits_BNQV.shape
    lengths = [n_frames * n_levels] * n_rows
    chosen = choose(logits_BNQV.flatten(1, 2), choice, temperature, lengths, draws)
    codes_BNQ, probability_BNQ = (part.view(n_rows, n_frames, n_levels) for part in chosen)
    return codes_BNQ, probability_BNQ


def _masked_again(doubt_BNQ: Tensor, count: int, level: int) -> Tensor:
    """The most doubtful of all levels, and everything above `level`."""
    ranks = doubt_BNQ.flatten(1).argsort(1, descending=True).argsort(1).view_as(doubt_BNQ)
    levels_Q = torch.arange(doubt_BNQ.shape[2], device=doubt_BNQ.device)
    return (ranks < count) | (levels_Q > level)
