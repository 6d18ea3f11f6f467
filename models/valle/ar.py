"""VALL-E's first stage: text and a voice prompt -> the first level of the codes, token by token.

After enhuiz/vall-e@3476d39. Differences: attention keeps keys and values (retention its state), so that a token costs
one position; rows have their own lengths wherever their padding stands.
Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels, D channels, V codes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.layers.attention_cache import Cached
from models.layers.packing import LeftAligned
from models.layers.retention import Retained
from models.valle.config import ValleARConfig
from models.valle.network import ValleNetwork, retention_trunk, transformer

State = Cached | Retained


class ValleAR(ValleNetwork):
    """Predicts the token that follows; V is the stop token."""

    config: ValleARConfig

    def __init__(self, config: ValleARConfig) -> None:
        n_tokens = config.codebook_size + 1
        trunk = transformer(config) if config.trunk == "transformer" else retention_trunk(config)
        super().__init__(config, (1, n_tokens), n_tokens, trunk)

    def forward(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        prompt_BPQ: Tensor,
        prompt_mask_BP: Tensor,
        codes_BT: Tensor,
        codes_mask_BT: Tensor,
        *,
        predicts: Literal["codes", "text_and_codes"] = "codes",
        seen_BT: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, T + 1, V + 1): of the first token, and of the token behind each frame.

        Ids are int64, those of the prompt below V + n_task_tokens; masks are bool, true at valid positions. With
        `text_and_codes` the L logits behind each text token come before them: the published loss has the text too,
        whose ids are then classes of the same head. Of the codes those where `seen_BT` is true are read; None: all.
        """
        codes_BTD = self.code_tables(codes_BT[..., None])
        if seen_BT is not None:
            codes_BTD = codes_BTD * seen_BT[..., None]
        x_BND, mask_BN = self.sequence(
            text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP, codes_BTD, codes_mask_BT
        )
        hidden_BND = self.whole(x_BND, mask_BN)
        wanted = hidden_BND[:, -codes_BT.shape[1] - 1 :]
        if predicts == "text_and_codes":
            wanted = torch.cat([hidden_BND[:, : text_BL.shape[1]], wanted], dim=1)
        y: Tensor = self.head(wanted)
        return y

    def prefill(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        prompt_BPQ: Tensor,
        prompt_mask_BP: Tensor,
        codes_BT: Tensor,
        codes_mask_BT: Tensor,
        max_tokens: int,
        reads: Literal["used", "all"] = "used",
    ) -> tuple[Tensor, State]:
        """Read what comes before the first token to generate: logits (B, V + 1) of it, and the state for `step`.

        `codes_BT` are frames to continue, T may be 0. `max_tokens` can follow. `reads`: see Cached.
        """
        codes_BTD = self.code_tables(codes_BT[..., None])
        x_BND, mask_BN = self.sequence(
            text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP, codes_BTD, codes_mask_BT
        )
        rows = LeftAligned(mask_BN)
        x_BMD = self.positioned(rows.align(x_BND))
        state = self._new_state(len(x_BMD), x_BMD.shape[1] + max_tokens, x_BMD.device, reads)
        state.extend(rows.lengths_B, x_BMD.shape[1])
        hidden_BMD = self.trunk(x_BMD, state)
        last_BD = hidden_BMD[torch.arange(len(x_BMD), device=x_BMD.device), rows.lengths_B - 1]
        return self.head(last_BD), state

    def step(self, tokens_B: Tensor, state: State) -> Tensor:
        """Read one token of each row: logits (B, V + 1) of the next."""
        x_B1D = self.code_tables(tokens_B[:, None, None])
        x_B1D = self.positioned(x_B1D, state.lengths_B[:, None])
        state.extend(torch.ones_like(state.lengths_B), 1)
        y: Tensor = self.head(self.trunk(x_B1D, state)[:, 0])
        return y

    def _new_state(
        self, n_rows: int, n_slots: int, device: torch.device, reads: Literal["used", "all"]
    ) -> State:
        if self.has_positions:
            return Cached(n_rows, n_slots, device, reads=reads)
        return Retained(n_rows, device)
