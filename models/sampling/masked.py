"""The masked-generative sampler: start from all masks, fill in, mask the least certain again, repeat.

After arXiv 2202.04200 (MaskGIT) with the schedule and noise of MaskGCT (arXiv 2409.00750; draw order of
choiHkk/maskgct@6048485), which TokenChoice can switch off. Shapes: B rows, T frames, V codes, k candidates.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from models.layers.checks import check_choice, check_steps
from models.layers.masks import length_mask
from models.sampling.draws import Draws, gumbel

LogitsFn = Callable[[Tensor, Tensor, float, Sequence[int]], Tensor]
"""(codes_BT int64, masked_BT bool, time in (0, 1], rows) -> logits_BTV, of which those `rows` are read.

Codes are 0 where masked. Rows grow; there is at least one.
"""

SINGLE_STEP_TEMPERATURE = 0.2

LastStep = Literal["greedy", "drawn"]


@dataclass(frozen=True)
class TokenChoice:
    """Settings of drawing codes from logits; the defaults are those of MaskGCT's published sampler."""

    temperature: float = 0.5
    """Of the Gumbel noise at the first step; it falls to 0 with the diffusion time."""
    filter_threshold: float = 0.98
    """Only the ceil((1 - filter_threshold) * V) most likely codes can be drawn."""
    confidence_noise: float = 1.0
    """Multiple of the Gumbel noise in the confidence, which falls with the diffusion time; 0: none is drawn."""
    last_step: LastStep = "greedy"
    """The last step takes the most likely codes, or draws as the others do."""
    single_step_temperature: float | None = SINGLE_STEP_TEMPERATURE
    """With which codes are drawn if there is one step only; None: as in any last step."""

    def __post_init__(self) -> None:
        check_choice(self, "last_step", get_args(LastStep))
        if not self.confidence_noise >= 0:
            raise ValueError(f"confidence_noise is {self.confidence_noise}; it must not be negative")
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; it must not be negative")
        if not 0 <= self.filter_threshold < 1:
            raise ValueError(f"filter_threshold is {self.filter_threshold}; it must be in [0, 1)")

    def temperature_at(self, step: int, n_steps: int) -> float | None:
        """Temperature of the Gumbel noise in a step; None: the most likely codes are taken."""
        if n_steps == 1 and self.single_step_temperature is not None:
            return self.single_step_temperature
        if self.last_step == "greedy" and step == n_steps - 1:
            return None
        return max(self.temperature * (1 - step / n_steps), 1e-3)


def sample_masked(
    logits_fn: LogitsFn,
    lengths: Sequence[int],
    n_steps: int,
    choice: TokenChoice,
    draws: Draws,
    device: torch.device | str,
) -> Tensor:
    """Return int64 codes (B, max(lengths)), 0 beyond each row's length.

    Lengths are plain integers, so every count is known before the first step and nothing waits for the
    device. A row's codes depend on its own logits and draws only. In a step that fixes none of its frames (a short
    row has fewer frames than steps) a row draws its numbers as in any other, but needs no logits.
    ValueError for n_steps < 1.
    """
    check_steps("n_steps", n_steps)
    counts_SB = remask_counts(lengths, n_steps)
    device_counts_SB1 = counts_SB.to(device)[..., None]
    masked_BT = length_mask(torch.tensor(lengths, device=device), max(lengths))
    codes_BT = torch.zeros(masked_BT.shape, dtype=torch.int64, device=device)
    drawn_lengths, left = list(lengths), list(lengths)
    for step, following in enumerate(counts_SB.tolist()):
        time = 1 - step / n_steps
        rows = [row for row, count in enumerate(following) if count < left[row]]
        if rows:  # always in the first step; after it the last logits stand in, for no frame
            logits_BTV = logits_fn(codes_BT, masked_BT, time, rows)
        temperature = choice.temperature_at(step, n_steps)
        chosen_BT, confidence_BT = choose(logits_BTV, choice, temperature, drawn_lengths, draws)
        if choice.confidence_noise:
            # Drawn in the last step too, although unused there: recorded streams hold it.
            noise_BT = gumbel(draws.scores(drawn_lengths, masked_BT.shape[1]))
            confidence_BT = confidence_BT + time * choice.confidence_noise * noise_BT
        doubt_BT = 1 - confidence_BT
        again_BT = _most_doubtful(doubt_BT, masked_BT, device_counts_SB1[step])
        codes_BT = torch.where(masked_BT, chosen_BT, codes_BT).masked_fill(again_BT, 0)
        masked_BT = again_BT
        left = following
        drawn_lengths = [n if count else 0 for n, count in zip(lengths, left, strict=True)]
        if not any(left):
            break
    return codes_BT


def remask_counts(lengths: Sequence[int], n_steps: int) -> Tensor:
    """Return how many frames of each row are masked after each step, int64 (n_steps, B); the last is 0.

    floor(sin(pi/2 * t) * T) in float32, as the reference rounds it.
    """
    times_S = 1 - torch.arange(1, n_steps + 1, dtype=torch.float32) / n_steps
    shares_S = torch.sin(times_S * (math.pi / 2))
    return torch.floor(shares_S[:, None] * torch.tensor(lengths, dtype=torch.float32)).long()


def candidate_count(filter_threshold: float, n_codes: int) -> int:
    """Return k in double precision: (1 - 0.98) * 50 is slightly above 1, which gives 2."""
    return math.ceil((1 - filter_threshold) * n_codes)


def choose(
    logits_BTV: Tensor, choice: TokenChoice, temperature: float | None, lengths: Sequence[int], draws: Draws
) -> tuple[Tensor, Tensor]:
    """Return drawn codes (the most likely ones without temperature) and their probabilities, each (B, T).

    Probabilities are those among the codes that can be drawn.
    """
    n_codes = logits_BTV.shape[-1]
    logits_BTk, ids_BTk = logits_BTV.float().topk(candidate_count(choice.filter_threshold, n_codes))
    if temperature is None:
        rank_BT1 = torch.zeros_like(ids_BTk[..., :1])
    else:
        noise_BTk = gumbel(draws.tokens(lengths, ids_BTk, n_codes))
        rank_BT1 = (logits_BTk / temperature + noise_BTk).argmax(-1, keepdim=True)
    probability_BT = logits_BTk.softmax(-1).gather(-1, rank_BT1)[..., 0]
    return ids_BTk.gather(-1, rank_BT1)[..., 0], probability_BT


def _most_doubtful(doubt_BT: Tensor, masked_BT: Tensor, count_B1: Tensor) -> Tensor:
    """Mark the `count_B1` masked frames of the highest doubt; frames once fixed stay fixed."""
    doubt_BT = doubt_BT.masked_fill(~masked_BT, -torch.inf)
    rank_BT = doubt_BT.argsort(dim=1, descending=True).argsort(dim=1)
    return rank_BT < count_B1
