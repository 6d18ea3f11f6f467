"""VALL-E's two stages: the first level token by token, then the others, each in one pass.

Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.layers.masks import length_mask
from models.sampling.autoregressive import Continuation, Search, generate
from models.sampling.draws import Draws
from models.sampling.token_sampling import TokenSampling, choose
from models.valle.ar import ValleAR
from models.valle.nar import ValleNAR


@dataclass(frozen=True)
class Conditions:
    """Inputs of a batch of rows; masks are bool, true at valid positions, at least one per row."""

    text_BL: Tensor
    """int64; with a prompt its text and the wanted text."""
    text_mask_BL: Tensor
    prompt_BPQ: Tensor
    """Codes of the voice prompt, int64; P may be 0."""
    prompt_mask_BP: Tensor

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the order of both networks."""
        return self.text_BL, self.text_mask_BL, self.prompt_BPQ, self.prompt_mask_BP


@torch.no_grad()
def generate_first_level(
    model: ValleAR,
    given: Conditions,
    search: Search,
    max_tokens: int,
    codes_BT: Tensor | None = None,
    codes_mask_BT: Tensor | None = None,
    *,
    run: Literal["eager", "compiled"] = "eager",
) -> list[Continuation]:
    """Tokens of level 0 for each row, as `search` chooses them.

    `max_tokens` is the largest of the search's maximums. `codes_BT` are frames that the rows continue; they are not in
    the result. `compiled` gives the step to torch.compile, whose first call takes long; its shapes then never change.
    """
    if codes_BT is None or codes_mask_BT is None:
        codes_BT = given.text_BL[:, :0]
        codes_mask_BT = given.text_mask_BL[:, :0]
    reads: Literal["used", "all"] = "all" if run == "compiled" else "used"
    logits_BV, state = model.prefill(*given.inputs(), codes_BT, codes_mask_BT, max_tokens, reads)
    step = torch.compile(model.step, fullgraph=True) if run == "compiled" else model.step
    return generate(logits_BV, step, state, search)


@torch.no_grad()
def generate_other_levels(
    model: ValleNAR,
    given: Conditions,
    known_BTg: Tensor,
    lengths: Sequence[int],
    sampling: TokenSampling,
    draws: Draws,
) -> Tensor:
    """Return codes of all levels, int64 (B, T, Q): the g known ones and those that follow, 0 beyond a row's length.

    ValueError for settings of repetition, which have no meaning where all frames are drawn at once.
    """
    if sampling.window != 0:
        raise ValueError("levels that are drawn at once have no penalties for repetition")
    mask_BT = length_mask(torch.tensor(lengths, device=known_BTg.device), known_BTg.shape[1])
    codes_BTQ = known_BTg
    for level in range(known_BTg.shape[2], model.config.n_codebooks):
        levels_B = torch.full((len(lengths),), level, device=known_BTg.device)
        logits_BTV = model(*given.inputs(), codes_BTQ, mask_BT, levels_B)
        drawn_BT = choose(logits_BTV, sampling, lengths, draws) * mask_BT
        codes_BTQ = torch.cat([codes_BTQ, drawn_BT[..., None]], dim=-1)
    return codes_BTQ
