"""Drawing one token from logits: temperature, filters, penalties for repetition.

Shapes: B rows, T positions, V codes, W earlier tokens. Everything is done row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.sampling.draws import Draws, gumbel


@dataclass(frozen=True)
class TokenSampling:
    """The distribution that tokens are drawn from. The defaults draw from the network's own."""

    temperature: float = 1.0
    """0 takes the most likely token and draws nothing."""
    top_k: int = 0
    """Only the k most likely tokens can be drawn; 0: all."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability; the first is always among them."""
    min_p: float = 0.0
    """Only tokens with at least this share of the most likely token's probability."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens that occurred, and multiplies negative ones (arXiv 1909.05858)."""
    repetition_window: int = 0
    """The latest tokens that the penalty considers; 0: all."""
    aware_window: int = 0
    """Repetition-aware sampling (VALL-E 2, arXiv 2406.05370): a token that fills more than `aware_threshold` of the
    latest `aware_window` tokens is drawn again from the unfiltered distribution; 0: off."""
    aware_threshold: float = 0.1

    def __post_init__(self) -> None:
        for name, least in {"temperature": 0, "top_k": 0, "repetition_window": 0, "aware_window": 0}.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("top_p", "min_p", "aware_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0")

    @property
    def window(self) -> int | None:
        """Number of earlier tokens that are needed; None: all."""
        if self.repetition_penalty != 1 and not self.repetition_window:
            return None
        return max(self.repetition_window if self.repetition_penalty != 1 else 0, self.aware_window)


def choose(
    logits_BTV: Tensor,
    sampling: TokenSampling,
    lengths: Sequence[int],
    draws: Draws,
    recent_BW: Tensor | None = None,
) -> Tensor:
    """Return int64 tokens (B, T).

    `lengths` says how many positions of a row count: 0 for a finished one, which draws nothing. `recent_BW` holds the
    latest tokens of each row, -1 where it has fewer (with T = 1).
    """
    logits_BTV = logits_BTV.float()
    if recent_BW is not None and sampling.repetition_penalty != 1:
        logits_BTV = _penalised(logits_BTV, recent_BW, sampling)
    if sampling.temperature == 0:
        tokens_BT = logits_BTV.argmax(-1)
    else:
        tokens_BT = _drawn(filtered(logits_BTV, sampling), lengths, draws)
    if recent_BW is not None and sampling.aware_window:
        repeated_B = _repeated(tokens_BT, recent_BW, sampling)
        again = [n if repeats else 0 for n, repeats in zip(lengths, repeated_B.tolist(), strict=True)]
        if any(again):
            unfiltered_BTV = logits_BTV / (sampling.temperature or 1)
            tokens_BT = torch.where(repeated_B[:, None], _drawn(unfiltered_BTV, again, draws), tokens_BT)
    return tokens_BT


def filtered(logits_BTV: Tensor, sampling: TokenSampling) -> Tensor:
    """Divide by the temperature (above 0) and put -inf where the filters leave nothing."""
    logits_BTV = logits_BTV / sampling.temperature
    if 0 < sampling.top_k < logits_BTV.shape[-1]:
        least_BT1 = logits_BTV.topk(sampling.top_k).values[..., -1:]
        logits_BTV = logits_BTV.masked_fill(logits_BTV < least_BT1, -torch.inf)
    if sampling.top_p < 1:
        sorted_BTV, order_BTV = logits_BTV.sort(dim=-1, descending=True)
        probability_BTV = sorted_BTV.softmax(-1)
        outside_BTV = probability_BTV.cumsum(-1) - probability_BTV >= sampling.top_p
        outside_BTV[..., 0] = False
        outside_BTV = torch.zeros_like(outside_BTV).scatter(-1, order_BTV, outside_BTV)
        logits_BTV = logits_BTV.masked_fill(outside_BTV, -torch.inf)
    if sampling.min_p > 0:
        probability_BTV = logits_BTV.softmax(-1)
        least_BT1 = sampling.min_p * probability_BTV.amax(-1, keepdim=True)
        logits_BTV = logits_BTV.masked_fill(probability_BTV < least_BT1, -torch.inf)
    return logits_BTV


def _drawn(logits_BTV: Tensor, lengths: Sequence[int], draws: Draws) -> Tensor:
    """Draw from softmax(logits). Each token has a number of its own, as in torch.multinomial."""
    n_codes = logits_BTV.shape[-1]
    ids_BTV = torch.arange(n_codes, device=logits_BTV.device).expand(logits_BTV.shape)
    return (logits_BTV + gumbel(draws.tokens(lengths, ids_BTV, n_codes))).argmax(-1)


def _penalised(logits_BTV: Tensor, recent_BW: Tensor, sampling: TokenSampling) -> Tensor:
    window = sampling.repetition_window or recent_BW.shape[1]
    ids_B1W = recent_BW[:, -window:][:, None]
    occurred_B1V = torch.zeros(*logits_BTV.shape[:1], 1, logits_BTV.shape[-1] + 1, device=logits_BTV.device)
    # Absent tokens (-1) mark a column of their own.
    occurred_B1V.scatter_(-1, ids_B1W % occurred_B1V.shape[-1], 1.0)
    penalty = sampling.repetition_penalty
    less_BTV = torch.where(logits_BTV > 0, logits_BTV / penalty, logits_BTV * penalty)
    return torch.where(occurred_B1V[..., :-1] > 0, less_BTV, logits_BTV)


def _repeated(tokens_BT: Tensor, recent_BW: Tensor, sampling: TokenSampling) -> Tensor:
    same_BW = recent_BW[:, -sampling.aware_window :] == tokens_BT
    return same_BW.sum(1) > sampling.aware_threshold * sampling.aware_window
