"""Training batches of flow matching: points on the path, the velocity there, and what is given as a prompt.

After ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd (prefix prompts) and Voicebox, arXiv 2306.15687 (spans).
A pure function of latents and draws; the loss belongs to the trainer. Shapes: B rows, T frames, Z channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from models.flow_matching.path import Path
from models.layers.checks import check_choice, check_shares
from models.layers.masks import length_mask
from models.sampling.draws import CorruptionDraws

Prompts = Literal["prefix", "span"]
DrawPer = Literal["row", "batch"]


@dataclass(frozen=True)
class CorruptionConfig:
    """Prompts, and how often conditions are dropped."""

    prompts: Prompts = "prefix"
    """`prefix`: the first frames are given; `span`: all but one span are."""
    max_prompt_frames: int = 300
    """Of a prefix; 0: nothing is given."""
    min_span: float = 0.7
    """Least share of a row that a span hides; the most is all of it."""
    condition_drop_prob: float = 0.1
    """Probability that a row loses semantic embedding and prompt, which trains the unconditional branch of guidance.

    The reference has 0.
    """
    draw_per: DrawPer = "row"
    """The length of a prefix is drawn for each row or, as in the reference, once per batch."""

    def __post_init__(self) -> None:
        check_choice(self, "prompts", get_args(Prompts))
        check_choice(self, "draw_per", get_args(DrawPer))
        check_shares(self, ["min_span", "condition_drop_prob"])
        if self.max_prompt_frames < 0:
            raise ValueError(f"max_prompt_frames is {self.max_prompt_frames}; it must not be negative")


@dataclass(frozen=True)
class Corruption:
    """Inputs of the network and what it should say."""

    state_BTZ: Tensor
    times_B: Tensor
    """In [0, 1)."""
    prompt_BTZ: Tensor
    """The latents where they are given, 0 elsewhere."""
    keep_B: Tensor
    """Bool, false where semantic embedding and prompt are dropped."""
    velocity_BTZ: Tensor
    hidden_BT: Tensor
    """Bool, true at the valid frames that are not given: where the loss is taken."""


def corrupt(
    latents_BTZ: Tensor,
    semantic_BTZ: Tensor,
    lengths_B: Tensor,
    path: Path,
    config: CorruptionConfig,
    draws: CorruptionDraws,
) -> Corruption:
    """Put every row somewhere on its path. `semantic_BTZ` is read if the path says so, see Path.

    Draw order (that of the reference): prefix lengths (not if max_prompt_frames is 0) or span lengths and starts,
    noise, times, drop coins (only if condition_drop_prob > 0).
    """
    valid_BT = length_mask(lengths_B, latents_BTZ.shape[1])
    if config.prompts == "prefix":
        given_BT = length_mask(_prefix_lengths(lengths_B, config, draws), latents_BTZ.shape[1])
    else:
        given_BT = ~_spans(lengths_B, latents_BTZ.shape[1], config, draws)
    prior_BTZ = path.prior(draws.randn(*latents_BTZ.shape), semantic_BTZ)
    times_B = draws.rand(len(lengths_B))
    keep_B = torch.ones_like(lengths_B, dtype=torch.bool)
    if config.condition_drop_prob > 0:
        keep_B = draws.rand(len(lengths_B)) >= config.condition_drop_prob
    given_BT = given_BT & valid_BT & keep_B[:, None]
    end_BTZ = path.end(latents_BTZ, semantic_BTZ)
    return Corruption(
        path.state(prior_BTZ, end_BTZ, times_B[:, None, None]),
        times_B,
        latents_BTZ * given_BT[..., None],
        keep_B,
        path.velocity(prior_BTZ, end_BTZ),
        valid_BT & ~given_BT,
    )


def _prefix_lengths(lengths_B: Tensor, config: CorruptionConfig, draws: CorruptionDraws) -> Tensor:
    """At least two frames of a row are left to learn, if it has so many."""
    if config.max_prompt_frames == 0:
        return torch.zeros_like(lengths_B)
    shortest_n = lengths_B if config.draw_per == "row" else lengths_B.amin(0, keepdim=True)
    high_n = shortest_n.clamp(max=config.max_prompt_frames) - 1
    return draws.randint(torch.zeros_like(high_n), high_n).expand_as(lengths_B)


def _spans(lengths_B: Tensor, n_frames: int, config: CorruptionConfig, draws: CorruptionDraws) -> Tensor:
    """Bool (B, T), true at the hidden span of each row."""
    n_rows = len(lengths_B)
    shares_B = config.min_span + (1 - config.min_span) * draws.rand(n_rows)
    spans_B = (shares_B * lengths_B).ceil().long().clamp(min=1)
    starts_B = (draws.rand(n_rows) * (lengths_B - spans_B + 1)).long()
    return length_mask(starts_B + spans_B, n_frames) & ~length_mask(starts_B, n_frames)
