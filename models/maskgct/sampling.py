"""The two stages of MaskGCT as closures for the masked sampler: text prompt, voice prompt, guidance.

Everything that no step changes is computed once: the text network, the prompt's embedding, finished levels.
Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels, D channels, V codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.layers.masks import length_mask
from models.layers.packing import Packing, rows_to_positions
from models.maskgct.s2a import MaskGCTS2A
from models.maskgct.t2s import MaskGCTT2S
from models.maskgct.text_prefix import TextPrefixTransformer
from models.sampling.draws import Draws
from models.sampling.guidance import Guidance, guide
from models.sampling.masked import LogitsFn, TokenChoice, sample_masked


@dataclass(frozen=True)
class Conditions:
    """What the rows of a batch are generated from; masks are bool, true at valid positions."""

    text_BL: Tensor
    """int64; with a prompt the prompt's text and the wanted text."""
    text_mask_BL: Tensor
    prompt_BPQ: Tensor
    """Codes of the voice prompt, int64; P may be 0. One frame of id V is the published "no prompt"."""
    prompt_mask_BP: Tensor
    lengths: Sequence[int]
    """Frames to generate, at least 1 each."""


@dataclass(frozen=True)
class Generated:
    """Generated codes and what they cost."""

    codes_BTQ: Tensor
    """int64, of the first Q levels."""
    evaluations: int
    """Passes through the network; a guided step makes two, one for each branch."""


class _Branches:
    """Hidden states of the target frames, guided; both branches go through the network in one call.

    The unconditional branch sees the target frames alone: the same positions, with text and prompt masked
    out, so its rotary positions start at 0 again. The rows are packed, so that what is masked out costs
    nothing: padded, guidance was slower than with a call for each branch.
    """

    def __init__(self, trunk: TextPrefixTransformer, given: Conditions, guidance: Guidance) -> None:
        self.transformer, self.guidance = trunk.transformer, guidance
        self.text_BLD = trunk.embed_text(given.text_BL)
        device, n_rows = given.text_BL.device, len(given.lengths)
        self.target_mask_BT = length_mask(torch.tensor(given.lengths, device=device), max(given.lengths))
        prefix_mask = torch.cat([given.text_mask_BL, given.prompt_mask_BP], dim=1)
        conditional = torch.cat([prefix_mask, self.target_mask_BT], dim=1)
        unconditional = torch.cat([torch.zeros_like(prefix_mask), self.target_mask_BT], dim=1)
        n_branches = 2 if guidance.scale > 0 else 1
        self.evaluations, self._per_step = 0, n_branches
        self.packing = Packing(torch.cat([conditional, unconditional][:n_branches]))
        self.context = self.transformer.packed(self.packing)
        source_BN = rows_to_positions(n_rows, prefix_mask.shape[1], max(given.lengths), device=device)
        self.source_M = self.packing.pack(source_BN.repeat(n_branches, 1))[0]

    def prefix(self, prompt_BPD: Tensor) -> Tensor:
        """Return the part of the input that stays the same over the steps."""
        return torch.cat([self.text_BLD, prompt_BPD], dim=1).flatten(0, 1)

    def hidden(self, prefix: Tensor, target_BTD: Tensor, time: float) -> Tensor:
        """Return guided hidden states (B, T, D)."""
        self.evaluations += self._per_step
        source = torch.cat([prefix, target_BTD.flatten(0, 1)])
        time_1 = torch.full((1,), time, device=source.device)
        packed = self.transformer.run(source[self.source_M][None], time_1, self.context)
        branches = self.packing.unpack(packed)[:, -target_BTD.shape[1] :]
        if self.guidance.scale == 0:
            return branches
        conditional_BTD, unconditional_BTD = branches.chunk(2)
        return guide(conditional_BTD, unconditional_BTD, self.target_mask_BT, self.guidance)


@torch.no_grad()
def generate_t2s(
    model: MaskGCTT2S, given: Conditions, n_steps: int, choice: TokenChoice, guidance: Guidance, draws: Draws
) -> Generated:
    """Generate codebook 0, codes (B, T, 1); of the prompt only level 0 is read."""
    branches = _Branches(model.trunk, given, guidance)
    prompt_BP = given.prompt_BPQ[..., 0]
    prefix = branches.prefix(model.embed_codes(prompt_BP, torch.zeros_like(prompt_BP, dtype=torch.bool)))

    def logits(codes_BT: Tensor, masked_BT: Tensor, time: float) -> Tensor:
        y: Tensor = model.head(branches.hidden(prefix, model.embed_codes(codes_BT, masked_BT), time))
        return y

    codes_BT = sample_masked(logits, given.lengths, n_steps, choice, draws, given.text_BL.device)
    return Generated(codes_BT[..., None], branches.evaluations)


@torch.no_grad()
def generate_s2a(
    model: MaskGCTS2A,
    given: Conditions,
    known_BTg: Tensor,
    n_steps: Sequence[int],
    choice: TokenChoice,
    guidance: Guidance,
    draws: Draws,
) -> Generated:
    """Generate the levels that follow `known_BTg`, which are part of the result.

    `n_steps` has one entry a level, those of known levels unused. ValueError if it has not.
    """
    n_levels = model.config.n_codebooks
    if len(n_steps) != n_levels:
        raise ValueError(
            f"n_steps has {len(n_steps)} entries; it must have one for each of {n_levels} levels"
        )
    branches = _Branches(model.trunk, given, guidance)
    prompt_BPD = model.embed_codes(given.prompt_BPQ, torch.zeros_like(given.prompt_BPQ, dtype=torch.bool))
    codes_BTQ = torch.cat(
        [known_BTg, known_BTg.new_zeros(*known_BTg.shape[:2], n_levels - known_BTg.shape[2])], -1
    )
    for level in range(known_BTg.shape[2], n_levels):
        logits = _level_logits(model, branches, prompt_BPD, codes_BTQ, level)
        steps = n_steps[level]
        codes_BTQ[..., level] = sample_masked(logits, given.lengths, steps, choice, draws, codes_BTQ.device)
    return Generated(codes_BTQ, branches.evaluations)


def _level_logits(
    model: MaskGCTS2A, branches: _Branches, prompt_BPD: Tensor, codes_BTQ: Tensor, level: int
) -> LogitsFn:
    condition_11D = model.condition(torch.tensor([level], device=codes_BTQ.device))
    prefix = branches.prefix(prompt_BPD + condition_11D)
    constant_BTD = model.embed_other_levels(codes_BTQ, level) + condition_11D

    def logits(codes_BT: Tensor, masked_BT: Tensor, time: float) -> Tensor:
        target_BTD = constant_BTD + model.embed_level(codes_BT, masked_BT, level)
        y: Tensor = model.heads(branches.hidden(prefix, target_BTD, time), level)
        return y

    return logits
