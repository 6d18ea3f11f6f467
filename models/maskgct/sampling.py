"""The stages of MaskGCT as closures for the masked sampler: text prompt, voice prompt, guidance.

Everything that no step changes is computed once: the text network, the prompt's embedding, finished levels.
Shapes: B rows, R of them in a step, L text tokens, P prompt frames, N positions before the target, T frames, M packed
positions, Q levels, D channels, V codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.layers.attention import Packed
from models.layers.masks import length_mask
from models.layers.packing import Packing, rows_to_positions
from models.layers.transformer import NonCausalTransformer
from models.maskgct.code_levels import CodeLevels
from models.maskgct.s2a import MaskGCTS2A
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A
from models.maskgct.t2s import MaskGCTT2S
from models.maskgct.text_prefix import TextPrefixTransformer
from models.sampling.draws import Draws
from models.sampling.guidance import Guidance, guide
from models.sampling.masked import LogitsFn, TokenChoice, sample_masked


@dataclass(frozen=True)
class Conditions:
    """Inputs from which the rows of a batch are generated; masks are bool, true at valid positions."""

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


@dataclass(frozen=True)
class SemanticConditions:
    """Inputs of a batch in which every frame has a semantic token; masks as in Conditions."""

    semantic_BT: Tensor
    """int64, of the frames to generate."""
    prompt_semantic_BP: Tensor
    """int64, of the prompt's frames; P may be 0."""
    prompt_BPQ: Tensor
    """Codes of the voice prompt, int64, at least of the network's levels."""
    prompt_mask_BP: Tensor
    lengths: Sequence[int]
    """Frames to generate, at least 1 each."""


@dataclass(frozen=True)
class _PackedRows:
    """The inputs of some rows that no step changes, of both branches if there are two."""

    rows_R: Tensor
    n_branches: int
    source_M: Tensor
    """Where each packed position stands among the flattened prefix and target."""
    context: Packed
    target_mask_RT: Tensor


class _Branches:
    """Hidden states of the target frames, guided; both branches go through the network in one call.

    The unconditional branch sees the target frames alone: the same positions, with all that stands before them masked
    out, so its rotary positions start at 0 again. The rows are packed, so that what is masked out costs nothing:
    padded, guidance was slower than with a call for each branch.
    """

    def __init__(
        self,
        transformer: NonCausalTransformer,
        prefix_mask_BN: Tensor,
        lengths: Sequence[int],
        guidance: Guidance,
    ) -> None:
        self.transformer, self.guidance = transformer, guidance
        self._n_rows, self._n_prefix, device = len(lengths), prefix_mask_BN.shape[1], prefix_mask_BN.device
        self._target_mask_BT = length_mask(torch.tensor(lengths, device=device), max(lengths))
        self._mask_BN = torch.cat([prefix_mask_BN, self._target_mask_BT], dim=1)
        self._source_BN = rows_to_positions(self._n_rows, self._n_prefix, max(lengths), device=device)
        self._packed: dict[tuple[int, ...], _PackedRows] = {}
        self.evaluations = 0

    def hidden(self, prefix_BND: Tensor, target_BTD: Tensor, time: float, rows: Sequence[int]) -> Tensor:
        """Return guided hidden states (B, T, D), 0 in other rows; `prefix_BND` is what stands before the target."""
        packed = self._of(tuple(rows))
        self.evaluations += packed.n_branches
        source = torch.cat([prefix_BND.flatten(0, 1), target_BTD.flatten(0, 1)])
        time_1 = torch.full((1,), time, device=source.device)
        made = self.transformer.run(source[packed.source_M][None], time_1, packed.context)
        states_RTD = packed.context.packing.unpack(made)[:, self._n_prefix :]
        if packed.n_branches == 2:
            conditional_RTD, unconditional_RTD = states_RTD.chunk(2)
            states_RTD = guide(conditional_RTD, unconditional_RTD, packed.target_mask_RT, self.guidance)
        if len(rows) == self._n_rows:
            return states_RTD
        states_BTD = states_RTD.new_zeros(self._n_rows, *states_RTD.shape[1:])
        return states_BTD.index_copy_(0, packed.rows_R, states_RTD)

    def _of(self, rows: tuple[int, ...]) -> _PackedRows:
        if rows not in self._packed:
            rows_R = torch.tensor(rows, device=self._mask_BN.device)
            mask_RN, n_branches = self._mask_BN[rows_R], 2 if self.guidance.scale > 0 else 1
            alone_RN = mask_RN.clone()
            alone_RN[:, : self._n_prefix] = False
            packing = Packing(torch.cat([mask_RN, alone_RN][:n_branches]))
            source_M = packing.pack(self._source_BN[rows_R].repeat(n_branches, 1))[0]
            context = self.transformer.packed(packing)
            self._packed[rows] = _PackedRows(
                rows_R, n_branches, source_M, context, self._target_mask_BT[rows_R]
            )
        return self._packed[rows]


@torch.no_grad()
def generate_t2s(
    model: MaskGCTT2S, given: Conditions, n_steps: int, choice: TokenChoice, guidance: Guidance, draws: Draws
) -> Generated:
    """Generate codebook 0, codes (B, T, 1); of the prompt only level 0 is read."""
    branches = _prefixed(model.trunk, given, guidance)
    prompt_BP = given.prompt_BPQ[..., 0]
    prompt_BPD = model.embed_codes(prompt_BP, torch.zeros_like(prompt_BP, dtype=torch.bool))
    prefix_BND = torch.cat([model.trunk.embed_text(given.text_BL), prompt_BPD], dim=1)

    def logits(codes_BT: Tensor, masked_BT: Tensor, time: float, rows: Sequence[int]) -> Tensor:
        target_BTD = model.embed_codes(codes_BT, masked_BT)
        y: Tensor = model.head(branches.hidden(prefix_BND, target_BTD, time, rows))
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
    text_BLD = model.trunk.embed_text(given.text_BL)
    prompt_BPD = _prompt_codes(model, given.prompt_BPQ)

    def conditioned(level: int) -> tuple[Tensor, Tensor]:
        condition_11D = model.condition(torch.tensor([level], device=known_BTg.device))
        return torch.cat([text_BLD, prompt_BPD + condition_11D], dim=1), condition_11D

    branches = _prefixed(model.trunk, given, guidance)
    return _by_level(model, branches, conditioned, known_BTg, n_steps, given.lengths, choice, draws)


@torch.no_grad()
def generate_semantic_s2a(
    model: MaskGCTSemanticS2A,
    given: SemanticConditions,
    known_BTg: Tensor,
    n_steps: Sequence[int],
    choice: TokenChoice,
    guidance: Guidance,
    draws: Draws,
) -> Generated:
    """As `generate_s2a`, where every frame has a semantic token, which the unconditional branch sees as well."""
    n_prompt = given.prompt_semantic_BP.shape[1]
    semantic_BN = torch.cat([given.prompt_semantic_BP, given.semantic_BT], dim=1)
    prompt_BPD = _prompt_codes(model, given.prompt_BPQ[..., : model.n_levels])

    def conditioned(level: int) -> tuple[Tensor, Tensor]:
        condition_BND = model.condition(semantic_BN, torch.tensor([level], device=semantic_BN.device))
        return prompt_BPD + condition_BND[:, :n_prompt], condition_BND[:, n_prompt:]

    branches = _Branches(model.transformer, given.prompt_mask_BP, given.lengths, guidance)
    return _by_level(model, branches, conditioned, known_BTg, n_steps, given.lengths, choice, draws)


def _prefixed(trunk: TextPrefixTransformer, given: Conditions, guidance: Guidance) -> _Branches:
    prefix_mask_BN = torch.cat([given.text_mask_BL, given.prompt_mask_BP], dim=1)
    return _Branches(trunk.transformer, prefix_mask_BN, given.lengths, guidance)


def _prompt_codes(model: CodeLevels, prompt_BPQ: Tensor) -> Tensor:
    return model.embed_codes(prompt_BPQ, torch.zeros_like(prompt_BPQ, dtype=torch.bool))


def _by_level(
    model: CodeLevels,
    branches: _Branches,
    conditioned: Callable[[int], tuple[Tensor, Tensor]],
    known_BTg: Tensor,
    n_steps: Sequence[int],
    lengths: Sequence[int],
    choice: TokenChoice,
    draws: Draws,
) -> Generated:
    """Level after level. `conditioned`: level -> the input before the target frames, and what is added to theirs."""
    n_known, n_levels = known_BTg.shape[2], model.n_levels
    if len(n_steps) != n_levels:
        raise ValueError(
            f"n_steps has {len(n_steps)} entries; it must have one for each of {n_levels} levels"
        )
    if n_known < model.first_level:
        raise ValueError(
            f"{n_known} levels are given; the network generates from level {model.first_level} on"
        )
    codes_BTQ = torch.cat([known_BTg, known_BTg.new_zeros(*known_BTg.shape[:2], n_levels - n_known)], -1)
    for level in range(n_known, n_levels):
        prefix_BND, condition = conditioned(level)
        constant_BTD = model.embed_other_levels(codes_BTQ, level) + condition
        logits = _level_logits(model, branches, prefix_BND, constant_BTD, level)
        codes_BTQ[..., level] = sample_masked(
            logits, lengths, n_steps[level], choice, draws, codes_BTQ.device
        )
    return Generated(codes_BTQ, branches.evaluations)


def _level_logits(
    model: CodeLevels, branches: _Branches, prefix_BND: Tensor, constant_BTD: Tensor, level: int
) -> LogitsFn:
    def logits(codes_BT: Tensor, masked_BT: Tensor, time: float, rows: Sequence[int]) -> Tensor:
        target_BTD = constant_BTD + model.embed_level(codes_BT, masked_BT, level)
        return model.logits(branches.hidden(prefix_BND, target_BTD, time, rows), level)

    return logits
