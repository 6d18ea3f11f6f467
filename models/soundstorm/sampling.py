"""Acoustic codes from semantic tokens and a voice prompt, level by level.

Shapes: B rows, P prompt frames, T target frames, N positions of both, Q levels, V codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from models.layers.checks import check_choice, check_steps
from models.layers.levels import hidden_codes
from models.sampling.draws import Draws
from models.sampling.masked import LogitsFn, TokenChoice, sample_masked
from models.sampling.prompted import PromptedRows
from models.soundstorm.network import SoundStorm
from models.soundstorm.published import choose_levels, sample_published

Schedule = Literal["fixed", "published"]


@dataclass(frozen=True)
class SoundStormOptions:
    """Options of generating codes; names and numbers are those of the published `generate`."""

    steps: int = 8
    """Forward passes of each level that is sampled in full."""
    num_full_sampling_levels: int = 1
    """Levels that are filled in over several steps; the ones above take one forward pass each."""
    topk_pres: float = 0.7
    """Only the ceil((1 - topk_pres) * V) most likely codes can be drawn."""
    greedy: bool = True
    """The last step of a level, which is the only one of most levels, takes the most likely codes."""
    generator_sample_temperature: float = 1.0
    """Of the Gumbel noise; over the steps it falls to 0."""
    once_all_tokens: bool = False
    """Take all levels from one single forward pass."""
    schedule: Schedule = "fixed"
    """`published` repeats the reference: one more step, for every level; its temperature grows from 0; what is masked
    again is chosen among the frames of all levels; levels above are filled too."""

    def __post_init__(self) -> None:
        check_choice(self, "schedule", get_args(Schedule))
        check_steps("steps", self.steps)
        if self.num_full_sampling_levels < 0:
            raise ValueError(
                f"num_full_sampling_levels is {self.num_full_sampling_levels}; it must not be negative"
            )
        if not 0 <= self.topk_pres < 1:
            raise ValueError(f"topk_pres is {self.topk_pres}; it must be in [0, 1)")
        if not self.generator_sample_temperature >= 0:
            raise ValueError(
                f"generator_sample_temperature is {self.generator_sample_temperature}; it must not be negative"
            )

    @property
    def one_length(self) -> bool:
        """True if the rows of a batch must be of one length."""
        return self.once_all_tokens or self.schedule == "published"

    def choice(self) -> TokenChoice:
        """Settings of drawing codes from logits."""
        last_step: Literal["greedy", "drawn"] = "greedy" if self.greedy else "drawn"
        return TokenChoice(
            self.generator_sample_temperature,
            self.topk_pres,
            confidence_noise=0,
            last_step=last_step,
            single_step_temperature=None,
        )


@dataclass(frozen=True)
class Conditions:
    """Inputs of a batch of rows, all padded on the right; ids and codes are int64."""

    semantic_BT: Tensor
    lengths: Sequence[int]
    """Frames to generate, at least 1 each."""
    prompt_semantic_BP: Tensor
    """P may be 0."""
    prompt_BPQ: Tensor
    """Codes of the prompt."""
    prompt_lengths: Sequence[int]


@dataclass(frozen=True)
class Generated:
    """Codes (B, T, Q), 0 beyond each row's length, and how often the network ran."""

    codes_BTQ: Tensor
    evaluations: int


@torch.no_grad()
def generate(model: SoundStorm, given: Conditions, options: SoundStormOptions, draws: Draws) -> Generated:
    """Return the codes of all levels. A row's codes depend on its own conditions and draws only.

    ValueError for rows of different lengths where the published way takes them together.
    """
    if options.one_length and (len(set(given.lengths)) > 1 or len(set(given.prompt_lengths)) > 1):
        raise ValueError(
            "rows differ in length; once_all_tokens and the schedule 'published' take rows of one length"
        )
    network = _Network(model, given)
    codes_BTQ = (
        _together(network, options, draws) if options.one_length else _level_by_level(network, options, draws)
    )
    return Generated(codes_BTQ * network.rows.target_mask_BT[..., None], network.evaluations)


def _together(network: _Network, options: SoundStormOptions, draws: Draws) -> Tensor:
    choice, rows, codes_BNQ = options.choice(), network.rows, network.start()
    if options.once_all_tokens:
        hidden_BNQ = ~rows.prompt_mask_BN[..., None].expand_as(codes_BNQ)
        logits_BNQV = network.all_logits(codes_BNQ, hidden_BNQ)
        codes_BNQ, _ = choose_levels(logits_BNQV, choice, choice.temperature_at(0, 1), draws)
    else:
        steps, full = options.steps, options.num_full_sampling_levels
        codes_BNQ = sample_published(
            network.all_logits, codes_BNQ, rows.prompt_mask_BN, steps, full, choice, draws
        )
    return rows.target(codes_BNQ)


def _level_by_level(network: _Network, options: SoundStormOptions, draws: Draws) -> Tensor:
    """Fill level after level; the ones above stay masked until their turn."""
    codes_BTQ, choice = network.rows.target(network.start()), options.choice()
    for level in range(codes_BTQ.shape[2]):
        steps = options.steps if level < options.num_full_sampling_levels else 1
        logits_fn, lengths = network.level_logits(codes_BTQ, level), network.lengths
        codes_BTQ[..., level] = sample_masked(logits_fn, lengths, steps, choice, draws, codes_BTQ.device)
    return codes_BTQ


class _Network:
    """The network with all that no step changes: the semantic embedding and the prompt. Counts its forward passes."""

    def __init__(self, model: SoundStorm, given: Conditions) -> None:
        self.model, self.lengths, self.prompt_BPQ = model, given.lengths, given.prompt_BPQ
        self.rows = PromptedRows(given.prompt_lengths, given.lengths, given.semantic_BT.device)
        semantic_BN = self.rows.join(given.prompt_semantic_BP, given.semantic_BT)
        self._semantic_BND = model.embed_semantic(semantic_BN)
        self.evaluations = 0

    def start(self) -> Tensor:
        """The prompt's codes, and 0 where codes are to be generated, (B, N, Q)."""
        n_rows, n_levels = len(self.lengths), self.prompt_BPQ.shape[2]
        nothing_BTQ = self.prompt_BPQ.new_zeros(n_rows, max(self.lengths), n_levels)
        return self.rows.join(self.prompt_BPQ, nothing_BTQ)

    def all_logits(self, codes_BNQ: Tensor, hidden_BNQ: Tensor) -> Tensor:
        """Logits (B, N, Q, V) of all levels at all frames."""
        states_BND = self._states(codes_BNQ, hidden_BNQ)
        return torch.stack(
            [self.model.heads(states_BND, level) for level in range(codes_BNQ.shape[2])], dim=2
        )

    def level_logits(self, codes_BTQ: Tensor, level: int) -> LogitsFn:
        """Logits (B, T, V) of one level at the target's frames, by what is known of it; see LogitsFn."""
        rows, n_levels = self.rows, codes_BTQ.shape[2]
        levels_B = torch.full((len(codes_BTQ),), level, device=codes_BTQ.device)

        def logits(codes_BT: Tensor, masked_BT: Tensor, _time: float, _rows: Sequence[int]) -> Tensor:
            known_BTQ = codes_BTQ.clone()
            known_BTQ[..., level] = codes_BT
            masked_BN = rows.join(masked_BT.new_zeros(len(masked_BT), rows.n_prompt), masked_BT)
            hidden_BNQ = hidden_codes(n_levels, masked_BN, rows.prompt_mask_BN, levels_B)
            states_BND = self._states(rows.join(self.prompt_BPQ, known_BTQ), hidden_BNQ)
            y: Tensor = self.model.heads(rows.target(states_BND), level)
            return y

        return logits

    def _states(self, codes_BNQ: Tensor, hidden_BNQ: Tensor) -> Tensor:
        self.evaluations += 1
        x_BND = self._semantic_BND + self.model.embed_codes(codes_BNQ, hidden_BNQ)
        y: Tensor = self.model.backbone(x_BND, self.rows.valid_BN)
        return y
