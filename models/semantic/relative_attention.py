"""w2v-BERT's attention with learned vectors for distances (arXiv 1803.02155), for less memory than transformers takes.

A query's product with the vector of a distance is computed once for each of the few distances that have one, and then
read for each key; transformers copies the vectors for every pair of frames first.

Shape suffixes: B rows, T frames (queries), K frames (keys), H heads, D channels, d channels of a head, P distances.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class RelativeKeyAttention(nn.Module):
    """Self-attention in the place of transformers' `Wav2Vec2BertSelfAttention`, without dropout."""

    def __init__(self, given: Any) -> None:
        """`given`: the layer whose weights are taken over, of `position_embeddings_type: relative_key`."""
        super().__init__()
        self.linear_q, self.linear_k = given.linear_q, given.linear_k
        self.linear_v, self.linear_out = given.linear_v, given.linear_out
        self.distance_embedding: nn.Embedding = given.distance_embedding
        self.left: int = given.left_max_position_embeddings
        self.right: int = given.right_max_position_embeddings
        self.head_size: int = given.head_size

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_unused: object
    ) -> tuple[Tensor, None]:
        """(B, T, D) -> (B, T, D), and no weights. `attention_mask` (B, 1, T, K): bool, true at keys, or added."""
        heads = (*hidden_states.shape[:2], -1, self.head_size)
        query_BHTd, key_BHKd, value_BHKd = (
            linear(hidden_states).view(heads).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        bias_BHTK = self._bias(query_BHTd)
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            bias_BHTK = bias_BHTK.masked_fill(~attention_mask, torch.finfo(bias_BHTK.dtype).min)
        elif attention_mask is not None:
            bias_BHTK = bias_BHTK + attention_mask
        made_BHTd = functional.scaled_dot_product_attention(query_BHTd, key_BHKd, value_BHKd, bias_BHTK)
        made_BTD: Tensor = self.linear_out(made_BHTd.transpose(1, 2).flatten(2))
        return made_BTD, None

    def _bias(self, query_BHTd: Tensor) -> Tensor:
        """The distances' part of the scores, (B, H, T, K)."""
        scores_BHTP: Tensor = (query_BHTd * self.head_size**-0.5) @ self.distance_embedding.weight.T
        place_T = torch.arange(query_BHTd.shape[2], device=query_BHTd.device)
        distance_TK = (place_T - place_T[:, None]).clamp(-self.left, self.right) + self.left
        return scores_BHTP.gather(3, distance_TK.expand(*scores_BHTP.shape[:2], -1, -1))


def share_distances(model: Any) -> None:
    """Put these attentions into a `Wav2Vec2BertModel` whose positions are relative keys; others stay as they are."""
    if model.config.position_embeddings_type == "relative_key":
        for layer in model.encoder.layers:
            layer.self_attn = RelativeKeyAttention(layer.self_attn)
