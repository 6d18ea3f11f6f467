"""Multi-scale retention (RetNet, arXiv 2307.08621): a causal mixing layer with parallel, chunkwise and recurrent forms.

A head with decay g reads o_n = sum over m <= n of g^(n-m) (q_n . k_m) v_m, divided by a number that depends on n; a
layer norm of each head follows, so that the number matters only through the norm's epsilon. The forms are contexts, as
for attention: `Parallel` and `Chunkwise` for whole sequences that start at position 0, `Retained` for decoding.
With the default normalisation all three compute the same; `published` is microsoft/torchscale@0b1f113, whose parallel
and chunkwise forms divide by further numbers of their own and therefore agree only up to the epsilon.
Shapes: B rows, N positions, D channels, H heads of d key and e value channels, C positions of a chunk.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Normalisation = Literal["position", "published"]


class RetentionContext(Protocol):
    """The form in which the retention layers of one forward pass run."""

    def rotate(self, x_BNHd: Tensor) -> Tensor:
        """Apply the positions to queries or keys."""

    def retain(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHe: Tensor, layer: int) -> Tensor:
        """Return (B, N, H, e), not yet normalised by head. `layer` counts the retention layers of the network."""


class MultiScaleRetention(nn.Module):
    """Retention with a layer norm of each head and a gate. Values have twice the channels of keys.

    `layer` is its number among the network's retention layers. `eps` belongs to the norm of the heads.
    """

    def __init__(self, dim: int, n_heads: int, layer: int = 0, eps: float = 1e-6) -> None:
        super().__init__()
        self.n_heads, self.layer, self.eps = n_heads, layer, eps
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.gate = nn.Linear(dim, 2 * dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, x_BND: Tensor, context: RetentionContext) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        query, key, value = (
            part(x_BND).unflatten(-1, (self.n_heads, -1)) for part in (self.query, self.key, self.value)
        )
        key = key * key.shape[-1] ** -0.5
        y_BNHe = context.retain(context.rotate(query), context.rotate(key), value, self.layer)
        y_BNHe = F.layer_norm(y_BNHe, y_BNHe.shape[-1:], eps=self.eps).to(value.dtype)
        y: Tensor = self.out(F.silu(self.gate(x_BND)) * y_BNHe.flatten(2))
        return y


def log_decays(n_heads: int, like: Tensor) -> Tensor:
    """Logarithms (H,) of the decays 1 - 2^(-5 - h), in the type in which `like` is accumulated."""
    exponents = torch.arange(n_heads, device=like.device, dtype=_wide(like.dtype))
    return torch.log1p(-torch.exp2(-5 - exponents))


class _Form:
    """Rotation and the decay matrix, which all layers of a forward pass share."""

    def __init__(self, normalisation: Normalisation = "position") -> None:
        if normalisation not in ("position", "published"):
            raise ValueError(f"normalisation is {normalisation!r}; it must be 'position' or 'published'")
        self.normalisation = normalisation
        self._decay_HCC: Tensor | None = None
        self._rotation: tuple[Tensor, Tensor] | None = None

    def _positions(self, x_BNHd: Tensor) -> Tensor:
        return torch.arange(x_BNHd.shape[1], device=x_BNHd.device)[None]

    def rotate(self, x_BNHd: Tensor) -> Tensor:
        """See RetentionContext. Neighbouring channels are pairs; frequencies fall from 1 to 1/10000, both included."""
        if self._rotation is None:
            exponents = torch.linspace(
                0, 1, x_BNHd.shape[-1] // 2, device=x_BNHd.device, dtype=_wide(x_BNHd.dtype)
            )
            angles = self._positions(x_BNHd)[..., None, None] * 10000.0**-exponents
            self._rotation = angles.cos(), angles.sin()
        cosine, sine = (part.to(x_BNHd.dtype) for part in self._rotation)
        first, second = x_BNHd[..., ::2], x_BNHd[..., 1::2]
        return torch.stack([first * cosine - second * sine, second * cosine + first * sine], dim=-1).flatten(
            -2
        )

    def _inner(self, query_BHCd: Tensor, key_BHCd: Tensor) -> Tensor:
        """Decayed scores (B, H, C, C) of a chunk with itself."""
        size = query_BHCd.shape[2]
        if self._decay_HCC is None or self._decay_HCC.shape[-1] != size:
            at_C = torch.arange(size, device=query_BHCd.device)
            distance_CC = at_C[:, None] - at_C
            log_H11 = log_decays(query_BHCd.shape[1], query_BHCd)[:, None, None]
            self._decay_HCC = torch.exp(log_H11 * distance_CC.clamp(min=0)) * (distance_CC >= 0)
        return query_BHCd @ key_BHCd.mT * self._decay_HCC.to(query_BHCd.dtype)


class Parallel(_Form):
    """All positions of a sequence in one matrix product; work and memory grow with the square of its length."""

    def retain(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHe: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """See RetentionContext."""
        query, key, value = (x.transpose(1, 2) for x in (query_BNHd, key_BNHd, value_BNHe))
        scores_BHNN = self._inner(query, key)
        norm_1HN1 = _norms(self._positions(query_BNHd), query.shape[1], query)
        y_BHNe = (scores_BHNN @ value) / norm_1HN1
        if self.normalisation == "published":
            total_BHN1 = (scores_BHNN.sum(-1, keepdim=True) / norm_1HN1).detach().abs()
            y_BHNe = y_BHNe / total_BHN1.clamp(min=1)
        return y_BHNe.transpose(1, 2)


class Chunkwise(_Form):
    """Chunk after chunk: parallel within one, recurrent from one to the next. Any length; memory grows with it."""

    def __init__(self, chunk_size: int, normalisation: Normalisation = "position") -> None:
        super().__init__(normalisation)
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.chunk_size = chunk_size

    def retain(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHe: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """See RetentionContext."""
        size, n_positions, wide = self.chunk_size, query_BNHd.shape[1], _wide(query_BNHd.dtype)
        padding = (0, 0, 0, -n_positions % size)
        chunks = [
            torch.split(F.pad(x.transpose(1, 2).to(wide), padding), size, dim=2)
            for x in (query_BNHd, key_BNHd, value_BNHe)
        ]
        log_H11 = log_decays(query_BNHd.shape[2], query_BNHd)[:, None, None]
        at_C1 = torch.arange(size, device=query_BNHd.device)[:, None]
        state_BHde: Tensor | None = None
        made = []
        for index, (query, key, value) in enumerate(zip(*chunks, strict=True)):
            scores_BHCC = self._inner(query, key)
            y_BHCe = scores_BHCC @ value
            if state_BHde is not None:
                y_BHCe = y_BHCe + (query * torch.exp(log_H11 * (at_C1 + 1))) @ state_BHde
            made.append(y_BHCe / self._divisor(scores_BHCC, state_BHde, index))
            added = (key * torch.exp(log_H11 * (size - 1 - at_C1))).mT @ value
            state_BHde = added if state_BHde is None else state_BHde * torch.exp(log_H11 * size) + added
        return torch.cat(made, dim=2)[:, :, :n_positions].transpose(1, 2)

    def _divisor(self, scores_BHCC: Tensor, state_BHde: Tensor | None, index: int) -> Tensor:
        """Divisor of a chunk's result, (B or 1, H, C, 1)."""
        size = self.chunk_size
        start = index * size if self.normalisation == "position" else 0
        positions_1C = torch.arange(start, start + size, device=scores_BHCC.device)[None]
        norm_1HC1 = _norms(positions_1C, scores_BHCC.shape[1], scores_BHCC)
        if self.normalisation == "position":
            return norm_1HC1
        inner_BHC1 = (scores_BHCC / norm_1HC1).detach().abs().sum(-1, keepdim=True).clamp(min=1)
        if state_BHde is None:
            return norm_1HC1 * inner_BHC1
        state = (state_BHde / norm_1HC1[:, :, -1:]).detach().abs()
        cross_BH11 = state.sum(-2, keepdim=True).amax(-1, keepdim=True).clamp(min=1)
        return norm_1HC1 * torch.maximum(inner_BHC1, cross_BH11)


class _Factors(NamedTuple):
    """Shared by the layers of one call of the recurrent form."""

    since_HN1: Tensor
    """Decay of the state at each position."""
    until_BHN1: Tensor
    """Decay of each position until the row's end; 0 behind it."""
    kept_BH11: Tensor
    """Decay of the state until the row's end."""
    norm_BHN1: Tensor


class Retained(_Form):
    """The recurrent form: the sums of all positions so far, one matrix (d, e) a head, and their number in each row.

    Several positions may come at once; what stands behind a row's valid ones has no influence. A DecoderState.
    """

    def __init__(self, n_rows: int, device: torch.device) -> None:
        super().__init__()
        self.lengths_B = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self._states: dict[int, Tensor] = {}
        self._factors: _Factors | None = None

    def extend(self, counts_B: Tensor, size: int) -> None:
        """See DecoderState."""
        self._positions_BN = self.lengths_B[:, None] + torch.arange(size, device=counts_B.device)
        self._counts_B = counts_B
        self._rotation = self._factors = None
        self.lengths_B = self.lengths_B + counts_B

    def _positions(self, x_BNHd: Tensor) -> Tensor:  # noqa: ARG002
        return self._positions_BN

    def retain(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHe: Tensor, layer: int) -> Tensor:
        """See RetentionContext."""
        wide = _wide(query_BNHd.dtype)
        query, key, value = (x.transpose(1, 2).to(wide) for x in (query_BNHd, key_BNHd, value_BNHe))
        if layer not in self._states:
            self._states[layer] = query.new_zeros(*query.shape[:2], query.shape[-1], value.shape[-1])
        state_BHde = self._states[layer]
        factors = self._factors = self._factors or self._new_factors(query)
        y_BHNe = self._inner(query, key) @ value + (query * factors.since_HN1) @ state_BHde
        added_BHde = (key * factors.until_BHN1).mT @ value
        self._states[layer] = state_BHde * factors.kept_BH11 + added_BHde
        return (y_BHNe / factors.norm_BHN1).transpose(1, 2)

    def _new_factors(self, query_BHNd: Tensor) -> _Factors:
        n_heads, size = query_BHNd.shape[1:3]
        log_H1 = log_decays(n_heads, query_BHNd)[:, None]
        at_N = torch.arange(size, device=query_BHNd.device)
        left_B1N = (self._counts_B[:, None] - 1 - at_N)[:, None]
        until_BHN = torch.exp(log_H1 * left_B1N.clamp(min=0)) * (left_B1N >= 0)
        return _Factors(
            torch.exp(log_H1 * (at_N + 1))[..., None],
            until_BHN[..., None],
            torch.exp(log_H1 * self._counts_B[:, None, None])[..., None],
            _norms(self._positions_BN, n_heads, query_BHNd),
        )

    def reorder(self, rows_B: Tensor) -> None:
        """See DecoderState."""
        self.lengths_B = self.lengths_B[rows_B]
        self._states = {layer: state[rows_B] for layer, state in self._states.items()}


def _norms(positions_BN: Tensor, n_heads: int, like: Tensor) -> Tensor:
    """sqrt(sum over m <= n of g^(n-m)) at each position n, (B, H, N, 1)."""
    log_H1 = log_decays(n_heads, like)[:, None]
    return torch.sqrt(torch.expm1(log_H1 * (positions_BN[:, None] + 1)) / torch.expm1(log_H1))[..., None]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
